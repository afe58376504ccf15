#!/bin/bash
# Sets the guide's demo up on Amazon ECS (docs/guides/ecs.md): a cluster of hosts with weave-rs, and a service that runs on
# all of them.
#
# What is there already is used, so that this may be run again after anything. When something fails, what this run has
# made is removed, and what was there before is left. settings.sh says what can be chosen.

set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=demo.sh
. "$here/demo.sh"

things=(cluster vpc subnet gateway security_group key_pair secret role template group task service)
declare -A there # What there was when we came.
made=() # What was not, last one first.

# Looks for everything, so that a permission to look that is missing is told before anything is made.
survey() {
  local thing
  for thing in "${things[@]}"; do
    there[$thing]=$("find_$thing")
  done
  # These are looked for when something is removed again.
  instances > /dev/null
  profile_roles > /dev/null
}

# step TEXT THING
step() {
  printf '%s .. ' "$1"
  if [ -z "${there[$2]}" ]; then
    made=("$2" "${made[@]}")
    "create_$2"
  elif is_function "renew_$2"; then
    "renew_$2"
  fi
  if is_function "configure_$2"; then "configure_$2"; fi
  echo "done"
}

is_function() {
  [ "$(type -t "$1")" = function ]
}

# waiting TEXT WHAT COMMAND
waiting() {
  printf '%s .. ' "$1"
  wait_until "$2" "$3"
  echo "done"
}

finish() {
  local code=$?
  # A signal may come while a command's output goes elsewhere.
  exec 1>&3 2>&4
  trap - EXIT INT TERM
  if [ "$code" != 0 ]; then
    printf 'failed\n'
    echo "setup.sh: $(cat "$scratch/reason")" >&2
    roll_back
  fi
  rm -rf "$scratch"
  exit "$code"
}

roll_back() {
  local thing left=()
  for thing in "${made[@]}"; do
    printf 'Removing %s again .. ' "${thing//_/ }"
    attempt "remove_$thing"
    if [ "$went" = 0 ]; then echo "done"; else
      left+=("${thing//_/ }")
      printf 'failed\n'
      echo "setup.sh: $(cat "$scratch/reason")" >&2
    fi
  done
  [ ${#left[@]} = 0 ] || echo "setup.sh: left: ${left[*]}; run cleanup.sh" >&2
}

network() {
  step "Creating ECS cluster ($cluster)" cluster
  step "Creating VPC ($vpc)" vpc
  step "Creating Subnet ($subnet)" subnet
  step "Creating Internet Gateway ($gateway)" gateway
  step "Creating Security Group ($security_group)" security_group
}

hosts() {
  step "Creating Key Pair ($name-demo, file $key_file)" key_pair
  step "Creating Secret ($secret)" secret
  step "Creating IAM role ($role)" role
  [ -n "$WEAVE_ECS_IMAGE" ] || step "Uploading weave-rs ($bucket)" archive
  step "Creating Launch Template ($template)" template
  step "Creating Auto Scaling Group ($group) with $WEAVE_ECS_SIZE instances" group
  waiting "Waiting for instances to join the cluster (this may take a few minutes)" "instances are missing" missing_hosts
}

work() {
  step "Registering ECS Task Definition ($task)" task
  step "Creating ECS Service with $WEAVE_ECS_SIZE tasks ($service)" service
  waiting "Waiting for tasks to start running" "tasks are missing" missing_tasks
}

exec 3>&1 4>&2
trap finish EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
prepare
if [ -z "$WEAVE_ECS_IMAGE" ]; then
  [ -r "$WEAVE_ECS_ARCHIVE" ] || fail "no archive at $WEAVE_ECS_ARCHIVE: run make ecs-archive"
  things+=(archive)
fi
survey
network
hosts
work
echo "Setup is ready!"
echo "Open your browser and go to any of these URLs:"
addresses | sed 's|^|  http://|'
