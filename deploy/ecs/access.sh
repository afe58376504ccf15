# shellcheck shell=bash
# Who may do what: the operator's key, the secret of the mesh, and the role of the hosts. Verbs as in network.sh.

# A key without its file cannot be used, nor can AWS give the file again: it is made anew. It is looked for all the same, since what
# is made may have to be removed.
find_key_pair() {
  local there
  there=$(key_pair_of_region)
  [ ! -e "$key_file" ] || echo "$there"
}

key_pair_of_region() {
  call ec2 describe-key-pairs --filters "Name=key-name,Values=$key_pair" --query 'KeyPairs[].KeyName'
}

# The file appears last and goes first. So one without its key pair is that of another region or account.
create_key_pair() {
  [ ! -e "$key_file" ] || fail "$key_file is of another region or account: move it away"
  remove_key_pair
  (umask 077 && call ec2 create-key-pair --key-name "$key_pair" --query KeyMaterial \
    --tag-specifications "$(tagged key-pair "$key_pair")" > "$key_file.part")
  mv "$key_file.part" "$key_file"
}

remove_key_pair() {
  local there
  there=$(key_pair_of_region)
  rm -f "$key_file.part"
  if [ -n "$there" ]; then
    rm -f "$key_file"
    call ec2 delete-key-pair --key-name "$key_pair" > /dev/null
  fi
}

find_secret() {
  unless ParameterNotFound ssm get-parameter --name "$secret" --query Parameter.Name
}

# 256 bits, that no list of processes and no file ever shows.
create_secret() {
  head -c 32 /dev/urandom | base64 -w 0 | call ssm put-parameter --name "$secret" --type SecureString \
    --value file:///dev/stdin --tags "Key=$tag_key,Value=$name" > /dev/null
}

remove_secret() {
  unless ParameterNotFound ssm delete-parameter --name "$secret"
}

find_role() {
  unless NoSuchEntity iam get-role --role-name "$role" --query Role.RoleName
}

create_role() {
  call iam create-role --role-name "$role" --assume-role-policy-document "$(render data/trust.json)" \
    --tags "Key=$tag_key,Value=$name" > /dev/null
}

configure_role() {
  local there
  call iam put-role-policy --role-name "$role" --policy-name "$name-policy" --policy-document "$(render data/policy.json)"
  unless EntityAlreadyExists iam create-instance-profile --instance-profile-name "$profile" > /dev/null
  there=$(profile_roles)
  [ -n "$there" ] || call iam add-role-to-instance-profile --instance-profile-name "$profile" --role-name "$role"
}

profile_roles() {
  unless NoSuchEntity iam get-instance-profile --instance-profile-name "$profile" --query 'InstanceProfile.Roles[].RoleName'
}

remove_role() {
  each profile_roles call iam remove-role-from-instance-profile --instance-profile-name "$profile" --role-name
  unless NoSuchEntity iam delete-instance-profile --instance-profile-name "$profile"
  unless NoSuchEntity iam delete-role-policy --role-name "$role" --policy-name "$name-policy"
  unless NoSuchEntity iam delete-role --role-name "$role"
}
