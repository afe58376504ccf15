#!/bin/bash
# Removes all that setup.sh makes, whatever there is of it, and may be run again after anything.
#
# It goes on past what cannot be removed, says what that is in one line each, and then fails.

set -euo pipefail
shopt -s inherit_errexit

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source=demo.sh
. "$here/demo.sh"

# Whoever uses a thing goes before it.
things=(service task group template archive role secret key_pair security_group gateway subnet vpc cluster)
left=()

finish() {
  local code=$?
  # A signal may come while a command's output goes elsewhere.
  exec 1>&3 2>&4
  trap - EXIT
  [ "$code" = 0 ] || [ ${#left[@]} != 0 ] || echo "cleanup.sh: $(cat "$scratch/reason")" >&2
  rm -rf "$scratch"
  exit "$code"
}

remove() {
  printf 'Deleting %s .. ' "${1//_/ }"
  attempt "remove_$1"
  if [ "$went" = 0 ]; then
    echo "done"
  else
    printf 'failed\n'
    echo "cleanup.sh: $(cat "$scratch/reason")" >&2
    left+=("${1//_/ }")
  fi
}

exec 3>&1 4>&2
trap finish EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
prepare
for thing in "${things[@]}"; do
  remove "$thing"
done
if [ ${#left[@]} != 0 ]; then
  echo "cleanup.sh: could not remove: ${left[*]}; run it again" >&2
  exit 1
fi
echo "Nothing is left."
