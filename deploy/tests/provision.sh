#!/bin/bash
# provision.sh TARGET: runs deploy/packer/provision.sh of the archive in TARGET in a bare root, twice, and looks at what it
# leaves. Of Amazon's image there is only what the script runs: this machine's programs, seen through an overlay.
set -euo pipefail
target=$(realpath "$1")
if [ "${2:-}" != inside ]; then
  exec unshare --mount --net --fork "$(realpath "${BASH_SOURCE[0]}")" "$target" inside
fi

work=$(mktemp -d)
mount -t tmpfs none "$work"
install -d "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root

# What could be there already, or be asked for.
rm -rf "$root"/usr/local/{bin,libexec,share}/weave-rs* "$root"/etc/systemd/system/*weave* "$root"/etc/docker
for program in dnf nft iptables; do
  printf '#!/bin/sh\necho %s "$@" >> /calls\n' "$program" | install -D -m 755 /dev/stdin "$root/usr/local/bin/$program"
done
rm "$root/usr/local/bin/nft" "$root"/usr/sbin/nft
printf '{\n    "userland-proxy": false\n}\n' | install -D -m 644 /dev/stdin "$root/etc/docker/daemon.json"
install -d "$root/archive"
tar -C "$root/archive" -xzf "$target/weave-rs-ecs.tar.gz"

provision() {
  env -i PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin chroot "$root" /archive/provision.sh > "$work/output" 2>&1 ||
    { cat "$work/output" >&2; exit 1; }
}

mount -t proc proc "$root/proc"

has() {
  grep -q "$2" "$root/$1" || { echo "$1: no $2" >&2; cat "$root/$1" >&2; exit 1; }
}

provision
[ "$(cat "$root/calls")" = "dnf install -y -q nftables" ] || { echo "not what was missing: $(cat "$root/calls")" >&2; exit 1; }
has etc/docker/daemon.json '"userland-proxy": false'
has etc/docker/daemon.json '"default-runtime": "weave-rs"'
has etc/docker/daemon.json '"path":"/usr/local/bin/weave-rs-runc"'
for unit in weave-rs weave-rs-demo; do
  [ -L "$root/etc/systemd/system/multi-user.target.wants/$unit.service" ] || { echo "$unit is not enabled" >&2; exit 1; }
done
has etc/systemd/system/ecs.service.d/weave-rs.conf 'TimeoutStartSec=infinity'
has etc/systemd/system/weave-rs.service.d/ecs.conf 'launch --password-parameter'
chroot "$root" /usr/local/bin/weave-rs version > /dev/null
ldd "$root/usr/local/share/weave-rs/demo/weave-demo" 2>&1 | grep -qE 'not a dynamic|statically' ||
  { echo "the demo's program is not static" >&2; exit 1; }
if find "$root/etc/systemd/system" "$root/usr/local/share/weave-rs" -name '*password*' | grep -q .; then
  echo "there is a secret in the image" >&2
  exit 1
fi

settings=$(cat "$root/etc/docker/daemon.json")
provision
[ "$settings" = "$(cat "$root/etc/docker/daemon.json")" ] || { echo "the second run changed Docker's settings" >&2; exit 1; }
echo "ok: a host is provisioned, once and again"
