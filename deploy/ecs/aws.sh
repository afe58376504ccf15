# shellcheck shell=bash
# Calling AWS, by version 1 or 2 of its command line.
#
#   call ─► aws … ─┬─► answer, as text
#                  └─► one line that says what is wrong, and whose permission is missing, in $scratch/reason
#
# Nothing waits for ever: a call has a minute, and whatever is waited for has WEAVE_ECS_DEADLINE seconds.

export AWS_PAGER="" AWS_CLI_AUTO_PROMPT=off AWS_RETRY_MODE=standard
readonly CONNECT_TIMEOUT=10 READ_TIMEOUT=60
# What is told of AWS's own words, characters: some carry a whole document.
readonly SAID_MAX=300

scratch=$(mktemp -d)

# Ends the script, or the part that `attempt` tries; why is said by whoever ends it.
fail() {
  echo "$*" > "$scratch/reason"
  exit 1
}

# interrupted CODE: likewise, by a signal.
interrupted() {
  echo "ended by a signal" > "$scratch/reason"
  exit "$1"
}

call() {
  aws --output text --cli-connect-timeout $CONNECT_TIMEOUT --cli-read-timeout $READ_TIMEOUT "$@" 2> "$scratch/errors" && return
  explain "$1" "$2" > "$scratch/reason"
  return 1
}

# explain SERVICE COMMAND: what the last call said, in one line.
explain() {
  local said
  said=$(tr -s '\n ' ' ' < "$scratch/errors")
  said=${said:0:SAID_MAX}
  case $(error_code) in
    AccessDenied* | Unauthorized* | AuthorizationError* | 403) echo "not allowed: the caller needs $(permission "$1");$said" ;;
    *) echo "aws $1 $2:${said:- ended without a word}" ;;
  esac
}

error_code() {
  sed -n 's/.*An error occurred (\([A-Za-z0-9.]*\)).*/\1/p' "$scratch/errors" | head -n 1
}

# The permission, as a policy names it, for the operation of the last call.
permission() {
  sed -n 's/.*when calling the \([A-Za-z0-9]*\) operation.*/\1/p' "$scratch/errors" | head -n 1 |
    sed "s/^HeadBucket$/ListBucket/; s/^/${1%api}:/"
}

# refused CODE: the last call ended with this error.
refused() {
  [ "$(error_code)" = "$1" ]
}

# unless CODE WORD…: `call`, where that error means that there is nothing to do, or nothing there.
unless() {
  local code=$1
  shift
  call "$@" || refused "$code"
}

# persist EXPRESSION WORD…: `call` again while it ends with an error that passes by itself.
persist() {
  local passing=$1 end=$((SECONDS + WEAVE_ECS_DEADLINE))
  shift
  until call "$@"; do
    grep -qE "$passing" "$scratch/errors" && ((SECONDS < end)) || return 1
    sleep "$WEAVE_ECS_POLL"
  done
}

# wait_until WHAT COMMAND…: until the command prints nothing; else what it printed last is the reason.
wait_until() {
  local what=$1 left end=$((SECONDS + WEAVE_ECS_DEADLINE))
  shift
  left=$("$@")
  while [ -n "$left" ]; do
    ((SECONDS < end)) || fail "$what after $WEAVE_ECS_DEADLINE s: $left"
    sleep "$WEAVE_ECS_POLL"
    left=$("$@")
  done
}

# each FINDER COMMAND…: the command for each thing that the finder prints.
each() {
  local thing things
  things=$("$1")
  shift
  for thing in $things; do
    "$@" "$thing"
  done
}

# attempt COMMAND…: sets `went` to its exit code, and goes on. (Within a condition, `set -e` would have no effect.)
attempt() {
  set +e
  (set -e && "$@")
  # shellcheck disable=SC2034 # Read by who attempts.
  went=$?
  set -e
}

# render FILE: with every @NAME@ replaced by the variable of that name, which is one of ours.
render() {
  local text variable
  text=$(< "$here/$1")
  while [[ $text =~ @([a-z_]+)@ ]]; do
    variable=${BASH_REMATCH[1]}
    text=${text//"@$variable@"/${!variable}}
  done
  printf '%s\n' "$text"
}

# tagged TYPE NAME: what makes a thing ours from its first moment.
tagged() {
  echo "ResourceType=$1,Tags=[{Key=Name,Value=$2},{Key=$tag_key,Value=$name}]"
}

# The filter by which it is found again.
ours() {
  echo "Name=tag:$tag_key,Values=$name"
}

# What both scripts need before anything else.
prepare() {
  check_settings
  command -v aws > /dev/null || fail "aws is not in PATH: install the AWS CLI, version 1 or 2"
  region=${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}
  [ -n "$region" ] || fail "no region is configured: set AWS_DEFAULT_REGION, or run aws configure"
  export AWS_DEFAULT_REGION=$region
  account=$(call sts get-caller-identity --query Account)
  bucket=$name-$account-$region
}
