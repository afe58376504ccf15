#!/bin/bash
# pack.sh TARGET: puts all that a host installs into TARGET/weave-rs-ecs.tar.gz, for hosts of this machine's architecture.
# TARGET is where cargo built; `make ecs-archive` has it build and calls this.
set -euo pipefail
deploy=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
target=$(realpath "$1")
archive=$target/weave-rs-ecs.tar.gz
readonly GLIBC_MAX=2.34 # Of Amazon Linux 2023.

# What was built against a newer libc does not start there.
fits() {
  local newest
  newest=$(objdump -T "$1" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -n 1)
  [ "$(printf '%s\n' "$newest" $GLIBC_MAX | sort -V | tail -n 1)" = $GLIBC_MAX ] ||
    { echo "pack.sh: $1 needs glibc $newest, hosts have $GLIBC_MAX: build on an older system" >&2; exit 1; }
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fits "$target/release/weave-rs"
fits "$target/release/weave-rs-runc"
install -D -s -m 755 -t "$work/bin" "$target/release/weave-rs" "$target/release/weave-rs-runc" \
  "$target/$(uname -m)-unknown-linux-gnu/release/weave-demo"
install -D -m 644 -t "$work/demo" "$deploy/demo/Dockerfile"
install -m 755 -t "$work" "$deploy/packer/provision.sh"
cp -r "$deploy/systemd" "$work"
# The same octets for the same files.
tar -C "$work" --sort=name --owner=0 --group=0 --mtime=@0 -c . | gzip -n > "$archive"
echo "$archive"
