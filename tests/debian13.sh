#!/usr/bin/env bash
# Runs levels of the tests on Debian 13, whose ngtcp2 is 1.x, whatever this machine runs; as root:
#     tests/debian13.sh DIR [LEVEL ...]
# DIR gets the root, once, by debootstrap; builds are kept there as well. Without levels: those that need no laboratory.
# The root shares network and devices with this machine; its mounts end with the run, however that ends.
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] && [ "$(id -u)" -eq 0 ] || {
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
}
mkdir -p "$1"
root=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- unit env fuzz sim cli hostile

if [ ! -e "$root/warren" ]; then
    command -v debootstrap >/dev/null || {
        echo "debootstrap is missing: apt-get install debootstrap" >&2
        exit 1
    }
    debootstrap --variant=minbase trixie "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    # It shares the network: what is installed must not start.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    mkdir -p "$root/builds" "$root/warren"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"
mkdir -p "$tree/build"

inside='
    set -e
    mount --bind "$1" "$1"    # a mount point of its own: network namespaces are not made without
    mount -t proc proc "$1/proc"
    mount --rbind /sys "$1/sys"
    mount --rbind /dev "$1/dev"
    mount --bind "$2" "$1/warren"
    mount --bind "$1/builds" "$1/warren/build"
    root=$1
    shift 2
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        bash -c "cd /warren; failed=0; for level; do ./tools/test \"\$level\" || failed=1; done; exit \$failed" levels "$@"
'
exec unshare --mount --pid --fork --kill-child bash -c "$inside" inside "$root" "$tree" "$@"
