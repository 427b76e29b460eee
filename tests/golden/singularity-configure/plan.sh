#!/bin/sh
# mlcube: platform singularity
set -eu

# build image /cube/workspace/images/mnist.simg
trap 'APPTAINER_DISABLE_CACHE=true sh -c '"'"'as() { "$@"; }
trap '"'"'"'"'"'"'"'"''"'"'"'"'"'"'"'"' INT TERM HUP
name=${1%/*}/.${1##*/}.$(id -u)@$(uname -n)
new=$name.$PPID.partial
if [ -e "$name.recipe.$PPID.partial" ]; then as rm -f -- "$name.recipe.$PPID.partial"; fi
room=${APPTAINER_TMPDIR:-${SINGULARITY_TMPDIR:-${TMPDIR:-/tmp}}}/mlcube-build-$PPID@$(uname -n)
for left in "$new" "$room"; do
  [ -e "$left" ] || continue
  as chmod -R u+rwX -- "$left" 2>/dev/null
  as rm -rf -- "$left" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$left"
done'"'"' sh /cube/workspace/images/mnist.simg </dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
(cd /cube/build && APPTAINER_DISABLE_CACHE=true sh -c 'as() { "$@"; }
set -e
image=$1 source=$2 label=$3; shift 3
place=${image%/*}; name=.${image##*/}.$(id -u)@$(uname -n)
for needed in "$place" "${APPTAINER_TMPDIR-}" "${SINGULARITY_TMPDIR-}"; do
  [ -z "$needed" ] || [ -d "$needed" ] || as mkdir -p -- "$needed"
done
for old in "$place/$name".*.partial; do
  owner=${old%.partial}; owner=${owner##*.}
  kill -0 "$owner" 2>/dev/null || { as chmod -R u+rwX -- "$old" 2>/dev/null || :; as rm -rf -- "$old"; }
done
new=$place/$name.$PPID.partial recipe=$place/$name.recipe.$PPID.partial
room=${APPTAINER_TMPDIR:-${SINGULARITY_TMPDIR:-${TMPDIR:-/tmp}}}/mlcube-build-$PPID@$(uname -n)
rm -rf -- "$room"; mkdir -m 700 -- "$room"
export APPTAINER_TMPDIR="$room" SINGULARITY_TMPDIR="$room"
trap '"'"'as rm -rf -- "$new" "$recipe" "$room"'"'"' EXIT
if [ -n "$label" ]; then
  { cat -- "$source" && printf '"'"'\n\n%%labels\n  %s\n'"'"' "$label"; } | as tee -- "$recipe" >/dev/null
  source=$recipe
fi
"$@" "$new" "$source"
as rm -f -- "$recipe"
if [ -d "$image" ] && [ ! -L "$image" ]; then as mv -T -- "$image" "$new.old"; fi
as mv -f -T -- "$new" "$image"
if [ -e "$new.old" ]; then as chmod -R u+rwX -- "$new.old"; as rm -rf -- "$new.old"; fi' sh /cube/workspace/images/mnist.simg Singularity.recipe 'org.mlcommons.mlcube.recipe sha256:f4d6e78d725277d84f2c7f1b7dc5429f436fa956ea7504ebf901ca80301e3941' apptainer build --fakeroot </dev/null)
APPTAINER_DISABLE_CACHE=true sh -c 'as() { "$@"; }
trap '"'"''"'"' INT TERM HUP
name=${1%/*}/.${1##*/}.$(id -u)@$(uname -n)
new=$name.$PPID.partial
if [ -e "$name.recipe.$PPID.partial" ]; then as rm -f -- "$name.recipe.$PPID.partial"; fi
room=${APPTAINER_TMPDIR:-${SINGULARITY_TMPDIR:-${TMPDIR:-/tmp}}}/mlcube-build-$PPID@$(uname -n)
for left in "$new" "$room"; do
  [ -e "$left" ] || continue
  as chmod -R u+rwX -- "$left" 2>/dev/null
  as rm -rf -- "$left" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$left"
done' sh /cube/workspace/images/mnist.simg </dev/null; trap - EXIT INT TERM
