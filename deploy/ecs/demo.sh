# shellcheck shell=bash
# All parts of the demo, for the two scripts that make and remove it; `here` is this folder.
# shellcheck source-path=SCRIPTDIR

# shellcheck source=settings.sh
. "$here/settings.sh"
# shellcheck source=aws.sh
. "$here/aws.sh"
# shellcheck source=network.sh
. "$here/network.sh"
# shellcheck source=access.sh
. "$here/access.sh"
# shellcheck source=hosts.sh
. "$here/hosts.sh"
# shellcheck source=work.sh
. "$here/work.sh"
