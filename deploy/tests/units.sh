#!/bin/bash
# systemd's own tools look at our units beside those of Docker, cloud-init and the ECS agent, in a root of their own:
# nothing is unknown, nothing waits in a circle, and the daemon may do no more than it has to.
set -euo pipefail
tests=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
units=$tests/../systemd
readonly EXPOSURE_MAX=40 # Tenths, of 100; what docs/guides/ecs.md says was measured is less.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A host with systemd's targets, the units of others, and ours.
host() {
  root=$work/$1
  local folder=$root/usr/lib/systemd/system unit program
  install -d "$folder" "$root/etc/systemd/system"
  cp -P /lib/systemd/system/*.{target,slice} "$tests"/units/* "$folder"
  cp "$units"/weave-rs*.{service,socket} "$root/etc/systemd/system"
  for program in bin/sh usr/bin/{install,docker,dockerd,containerd,cloud-init} usr/libexec/amazon-ecs-init \
    usr/local/bin/weave-rs; do
    install -D -m 755 /dev/null "$root/$program"
  done
  wanted multi-user.target docker.service containerd.service weave-rs.service cloud-init.target
  wanted sockets.target docker.socket
  wanted cloud-init.target cloud-final.service
}

# One of Amazon ECS, with further drop-ins.
ecs_host() {
  host "$1"
  cp -r "$units"/ecs/* "$root/etc/systemd/system"
  wanted multi-user.target ecs.service weave-rs-demo.service
}

# wanted TARGET UNIT…
wanted() {
  local target=$1 unit
  install -d "$root/etc/systemd/system/$target.wants"
  for unit in "${@:2}"; do
    ln -sf "/usr/lib/systemd/system/$unit" "$root/etc/systemd/system/$target.wants/$unit"
  done
}

# Prints what is wrong with a boot of the host.
verdict() {
  systemd-analyze verify --root="$root" --man=no --recursive-errors=yes multi-user.target cloud-init.target weave-rs.service \
    "$@" 2>&1 || true
}

fine() {
  local said
  said=$(verdict "${@:2}")
  [ -z "$said" ] || { printf '%s:\n%s\n' "$1" "$said" >&2; exit 1; }
  echo "ok: $1"
}

faulty() {
  verdict "${@:3}" | grep -q "$2" || { echo "$1: not seen" >&2; exit 1; }
  echo "ok: $1"
}

host plain
fine "a plain host"
sed -i 's/^After=network-online.target/& multi-user.target/' "$root/usr/lib/systemd/system/cloud-final.service"
fine "a host whose cloud-init ends last, as Debian's"

host sockets
wanted sockets.target weave-rs-docker-{proxy,plugin}.socket
fine "a host whose systemd listens for proxy and plugin" weave-rs-docker-{proxy,plugin}.socket
sed -i 's/^Before=docker.service/& local-fs.target/' "$root/etc/systemd/system/weave-rs-docker-plugin.socket"
faulty "a socket that waits in a circle is seen" "ordering cycle" weave-rs-docker-plugin.socket

ecs_host ecs
wanted sockets.target weave-rs-docker-{proxy,plugin}.socket
fine "a host of Amazon ECS" weave-rs-docker-{proxy,plugin}.socket ecs.service weave-rs-demo.service
sed -i 's/^After=network-online.target/& multi-user.target/' "$root/usr/lib/systemd/system/cloud-final.service"
faulty "units that wait in a circle are seen" "ordering cycle" ecs.service

ecs_host typo
echo "TimeoutStrtSec=1" >> "$root/etc/systemd/system/ecs.service.d/weave-rs.conf"
faulty "a setting that does not exist is seen" "TimeoutStrtSec" ecs.service

systemd-analyze security --offline=yes --threshold=$EXPOSURE_MAX "$units/weave-rs.service" > "$work/security" 2>&1 ||
  { tail -n 1 "$work/security" >&2; exit 1; }
echo "ok: $(tail -n 1 "$work/security" | sed 's/^[^A-Z]*//; s/[^A-Z]*$//')"
