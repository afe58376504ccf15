# shellcheck shell=bash
# What everything is called and how large it is, for setup.sh and cleanup.sh, which read this file.
#
# Each line may be overridden by an environment variable of its name; what can be wrong with one is said by `check_settings`.
# shellcheck disable=SC2034 # Used by the files that read this one.

: "${WEAVE_ECS_NAME:=weave-ecs}" # What all names begin with: one installation in an account and region for each.
: "${WEAVE_ECS_SIZE:=3}" # Hosts, and tasks.
: "${WEAVE_ECS_INSTANCE_TYPE:=t3.micro}"
: "${WEAVE_ECS_ARCHITECTURE:=x86_64}" # Or arm64, with an instance type to match.
: "${WEAVE_ECS_IMAGE:=}" # An image made by deploy/packer; empty: Amazon's, onto which each host installs the archive.
: "${WEAVE_ECS_ARCHIVE:=$here/../../target/weave-rs-ecs.tar.gz}" # Made by `make ecs-archive`.
: "${WEAVE_ECS_NETWORK:=172.31.0.0/24}"
: "${WEAVE_ECS_SSH_FROM:=}" # A network from which hosts may be reached by SSH, such as 192.0.2.1/32; empty: none.
: "${WEAVE_ECS_DEADLINE:=900}" # Seconds that any one thing may take.
: "${WEAVE_ECS_POLL:=5}" # Seconds between two looks at what is waited for.

name=$WEAVE_ECS_NAME
cluster=$name-demo-cluster
vpc=$name-demo-vpc
subnet=$name-demo-subnet
gateway=$name-demo
security_group=$name-demo
key_pair=$name-demo-key
key_file=$name-demo-key.pem
secret=/$name/password
role=$name-role
profile=$name-instance-profile
template=$name-launch-template
group=$name-demo-group
task=$name-demo-task
service=$name-demo-service
instance_type=$WEAVE_ECS_INSTANCE_TYPE
ssh_from=$WEAVE_ECS_SSH_FROM

# What carries this tag is ours. A name alone might be somebody else's.
tag_key=weave-rs:demo

check_settings() {
  matches WEAVE_ECS_NAME '[a-z0-9][a-z0-9-]{0,19}'
  matches WEAVE_ECS_SIZE '[1-9][0-9]{0,2}'
  matches WEAVE_ECS_INSTANCE_TYPE '[a-z0-9-]+\.[a-z0-9-]+'
  matches WEAVE_ECS_ARCHITECTURE 'x86_64|arm64'
  matches WEAVE_ECS_IMAGE '(ami-[0-9a-f]+)?'
  matches WEAVE_ECS_NETWORK '[0-9.]+/[0-9]+'
  matches WEAVE_ECS_SSH_FROM '([0-9.]+/[0-9]+)?'
  matches WEAVE_ECS_DEADLINE '[0-9]+'
  matches WEAVE_ECS_POLL '[0-9]+(\.[0-9]+)?'
}

# matches VARIABLE EXPRESSION: the variable's value is all of what the expression describes.
matches() {
  [[ ${!1} =~ ^($2)$ ]] || fail "$1=${!1} cannot be used: it has to look like $2"
}
