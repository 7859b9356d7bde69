#!/usr/bin/env bash
# Makes a Debian sid with Podman, Skopeo and docker-registry in a folder: make_chroot.sh FOLDER [MIRROR]
# Needs root, debootstrap and Debian's packages; takes a minute or two and 600 MB. Nothing stays mounted.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: $0 FOLDER [MIRROR]" >&2; exit 2; }
root=$1
[ "$(id -u)" = 0 ] || { echo "$0: only root can make a chroot" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "$0: debootstrap is missing; install it" >&2; exit 1; }
if [ -e "$root" ] && [ -n "$(ls -A "$root")" ]; then
    echo "$0: $root is not empty; name another folder, or remove it" >&2
    exit 1
fi
mkdir -p "$root"
# In a mount namespace of its own, what debootstrap mounts is gone when it ends.
unshare --mount debootstrap --variant=minbase \
    --include=ca-certificates,composefs,docker-registry,podman,skopeo sid "$root" "${@:2}"
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
mkdir -p "$root/etc/containers"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$root/etc/containers/policy.json"
touch "$root/interop.lock" # it is complete, and made for this: the tests use no other folder
chroot "$root" dpkg-query --show podman skopeo docker-registry
