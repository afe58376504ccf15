# shellcheck shell=bash
# The hosts: what they install, what each is like, and how many there are. Verbs as in network.sh.

readonly ARCHIVE_KEY=weave-rs-ecs.tar.gz
readonly IMAGE_PARAMETERS=/aws/service/ecs/optimized-ami/amazon-linux-2023

find_archive() {
  if call s3api head-bucket --bucket "$bucket" > /dev/null; then echo "$bucket"; else refused 404; fi
}

create_archive() {
  local constraint=()
  # The oldest region is the only one that must not be named.
  [ "$region" = us-east-1 ] || constraint=(--create-bucket-configuration "LocationConstraint=$region")
  call s3api create-bucket --bucket "$bucket" "${constraint[@]}" > /dev/null
}

configure_archive() {
  call s3api put-object --bucket "$bucket" --key "$ARCHIVE_KEY" --body "$WEAVE_ECS_ARCHIVE" > /dev/null
}

remove_archive() {
  unless NoSuchBucket s3api delete-object --bucket "$bucket" --key "$ARCHIVE_KEY" > /dev/null
  unless NoSuchBucket s3api delete-bucket --bucket "$bucket"
}

find_template() {
  call ec2 describe-launch-templates --filters "Name=launch-template-name,Values=$template" \
    --query 'LaunchTemplates[].LaunchTemplateName'
}

create_template() {
  local data
  data=$(template_data)
  call ec2 create-launch-template --launch-template-name "$template" --launch-template-data "$data" \
    --tag-specifications "$(tagged launch-template "$template")" > /dev/null
}

# One of an earlier run may speak of another archive, or of a security group that is gone.
renew_template() {
  local data
  data=$(template_data)
  call ec2 create-launch-template-version --launch-template-name "$template" --launch-template-data "$data" > /dev/null
}

# shellcheck disable=SC2034 # What render reads.
template_data() {
  local image user_data
  image=${WEAVE_ECS_IMAGE:-$(recommended_image)}
  user_data=$(user_data | base64 -w 0)
  render data/launch-template.json
}

recommended_image() {
  local variant=""
  [ "$WEAVE_ECS_ARCHITECTURE" = x86_64 ] || variant=/$WEAVE_ECS_ARCHITECTURE
  call ssm get-parameters --names "$IMAGE_PARAMETERS$variant/recommended/image_id" --query 'Parameters[].Value'
}

# shellcheck disable=SC2034 # What render reads.
user_data() {
  local archive=s3://$bucket/$ARCHIVE_KEY digest=""
  render data/user-data.sh
  if [ -z "$WEAVE_ECS_IMAGE" ]; then
    digest=$(sha256sum < "$WEAVE_ECS_ARCHIVE")
    digest=${digest%% *}
    render data/user-data-install.sh
  fi
}

remove_template() {
  each find_template call ec2 delete-launch-template --launch-template-name > /dev/null
}

# One that is being deleted is none.
find_group() {
  describe_group 'AutoScalingGroups[?Status==null].AutoScalingGroupName'
}

describe_group() {
  call autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$group" --query "$1"
}

# A new instance profile is known to this service only some seconds after it was made.
create_group() {
  persist 'Invalid IAM Instance Profile|pending delete' \
    autoscaling create-auto-scaling-group --auto-scaling-group-name "$group" \
    --launch-template "LaunchTemplateName=$template,Version=\$Latest" --vpc-zone-identifier "$subnet_id" \
    --min-size "$WEAVE_ECS_SIZE" --max-size "$WEAVE_ECS_SIZE" --desired-capacity "$WEAVE_ECS_SIZE" \
    --tags "Key=Name,Value=$group,PropagateAtLaunch=true" "Key=$tag_key,Value=$name,PropagateAtLaunch=true"
}

remove_group() {
  each find_group call autoscaling delete-auto-scaling-group --force-delete --auto-scaling-group-name
  wait_until "the group is still there" describe_group 'AutoScalingGroups[].Status'
  wait_until "instances are not terminated" instances
}

instances() {
  call ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --filters "$(ours)" \
    Name=instance-state-name,Values=pending,running,stopping,stopped,shutting-down
}

# Where browsers find the hosts, one a line.
addresses() {
  call ec2 describe-instances --query 'Reservations[].Instances[].[PublicDnsName || PublicIpAddress || PrivateIpAddress]' \
    --filters "$(ours)" Name=instance-state-name,Values=running
}
