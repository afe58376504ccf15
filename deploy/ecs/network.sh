# shellcheck shell=bash
# Where the hosts are: VPC, subnet, way out, and who may talk to them.
#
# For each thing: find_ prints what there is of it, create_ makes it with its tags in one call, so that nothing is ever
# without, configure_ does the rest and may be repeated, remove_ takes all of it away and may find nothing.
#
# What a command prints goes into a variable first: only then does its failure end the script.

find_vpc() {
  call ec2 describe-vpcs --filters "$(ours)" --query 'Vpcs[].VpcId'
}

create_vpc() {
  call ec2 create-vpc --cidr-block "$WEAVE_ECS_NETWORK" --tag-specifications "$(tagged vpc "$vpc")" > /dev/null
}

configure_vpc() {
  vpc_id=$(find_vpc)
  call ec2 modify-vpc-attribute --vpc-id "$vpc_id" --enable-dns-support
  call ec2 modify-vpc-attribute --vpc-id "$vpc_id" --enable-dns-hostnames
}

remove_vpc() {
  each find_vpc persist DependencyViolation ec2 delete-vpc --vpc-id
}

find_subnet() {
  call ec2 describe-subnets --filters "$(ours)" --query 'Subnets[].SubnetId'
}

create_subnet() {
  call ec2 create-subnet --vpc-id "$vpc_id" --cidr-block "$WEAVE_ECS_NETWORK" \
    --tag-specifications "$(tagged subnet "$subnet")" > /dev/null
}

configure_subnet() {
  subnet_id=$(find_subnet)
}

remove_subnet() {
  each find_subnet persist DependencyViolation ec2 delete-subnet --subnet-id
}

find_gateway() {
  call ec2 describe-internet-gateways --filters "$(ours)" --query 'InternetGateways[].InternetGatewayId'
}

create_gateway() {
  call ec2 create-internet-gateway --tag-specifications "$(tagged internet-gateway "$gateway")" > /dev/null
}

configure_gateway() {
  local id table
  id=$(find_gateway)
  unless Resource.AlreadyAssociated ec2 attach-internet-gateway --internet-gateway-id "$id" --vpc-id "$vpc_id"
  table=$(call ec2 describe-route-tables --query 'RouteTables[].RouteTableId' \
    --filters "Name=vpc-id,Values=$vpc_id" Name=association.main,Values=true)
  lead_out --route-table-id "$table" --destination-cidr-block 0.0.0.0/0 --gateway-id "$id"
}

# A route that is there may lead to a gateway that is not.
lead_out() {
  call ec2 create-route "$@" > /dev/null || { refused RouteAlreadyExists && call ec2 replace-route "$@"; }
}

remove_gateway() {
  each find_gateway remove_one_gateway
}

remove_one_gateway() {
  local network networks
  networks=$(call ec2 describe-internet-gateways --internet-gateway-ids "$1" \
    --query 'InternetGateways[].Attachments[].VpcId')
  for network in $networks; do
    persist DependencyViolation ec2 detach-internet-gateway --internet-gateway-id "$1" --vpc-id "$network"
  done
  call ec2 delete-internet-gateway --internet-gateway-id "$1"
}

find_security_group() {
  call ec2 describe-security-groups --filters "$(ours)" --query 'SecurityGroups[].GroupId'
}

create_security_group() {
  call ec2 create-security-group --group-name "$security_group" --vpc-id "$vpc_id" --description "weave-rs demo" \
    --tag-specifications "$(tagged security-group "$security_group")" > /dev/null
}

configure_security_group() {
  group_id=$(find_security_group)
  allow "$(render data/ingress.json)"
  [ -z "$WEAVE_ECS_SSH_FROM" ] || allow "$(render data/ingress-ssh.json)"
}

# The rules of one call are taken all or none.
allow() {
  unless InvalidPermission.Duplicate ec2 authorize-security-group-ingress --group-id "$group_id" --ip-permissions "$1" \
    > /dev/null
}

remove_security_group() {
  each find_security_group persist DependencyViolation ec2 delete-security-group --group-id > /dev/null
}
