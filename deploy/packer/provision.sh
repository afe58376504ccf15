#!/bin/bash
# Makes a host of Amazon ECS (its image of Amazon Linux 2023) one of weave-rs. As root, from the folder in which the
# archive of `make ecs-archive` was unpacked; may be run again. Packer runs it when an image is made (weave-ecs.pkr.hcl),
# user data where Amazon's own image is used.
#
# It starts nothing: what it installs starts at the next boot, or by whoever called.
set -euo pipefail
cd "$(dirname "$(realpath "${BASH_SOURCE[0]}")")"
readonly UNITS=/etc/systemd/system

# What the daemon runs.
packages() {
  local missing=()
  command -v nft > /dev/null || missing+=(nftables)
  command -v iptables > /dev/null || missing+=(iptables-nft)
  [ ${#missing[@]} = 0 ] || dnf install -y -q "${missing[@]}"
}

programs() {
  install -D -m 755 -t /usr/local/bin bin/weave-rs bin/weave-rs-runc
  install -D -m 644 demo/Dockerfile /usr/local/share/weave-rs/demo/Dockerfile
  install -D -m 755 bin/weave-demo /usr/local/share/weave-rs/demo/weave-demo
}

units() {
  install -D -m 644 -t "$UNITS" systemd/weave-rs.service systemd/weave-rs-docker-{proxy,plugin}.socket \
    systemd/ecs/weave-rs-demo.service
  install -D -m 644 -t "$UNITS/weave-rs.service.d" systemd/ecs/weave-rs.service.d/ecs.conf
  install -D -m 644 -t "$UNITS/ecs.service.d" systemd/ecs/ecs.service.d/weave-rs.conf
  systemctl enable --quiet weave-rs.service weave-rs-demo.service
  # Only where systemd runs.
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
}

packages
programs
units
/usr/local/bin/weave-rs setup docker --all
