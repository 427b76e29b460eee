#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: apptainer is not here; the plan assumes a current one

# build image /cube/workspace/.image/mlcommonsmnist.sif
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
done'"'"' sh /cube/workspace/.image/mlcommonsmnist.sif </dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
test -e /cube/workspace/.image/mlcommonsmnist.sif </dev/null >/dev/null 2>&1 || (cd /cube && APPTAINER_DISABLE_CACHE=true sh -c 'as() { "$@"; }
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
if [ -e "$new.old" ]; then as chmod -R u+rwX -- "$new.old"; as rm -rf -- "$new.old"; fi' sh /cube/workspace/.image/mlcommonsmnist.sif docker://mlcommons/mnist '' apptainer build </dev/null)
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
done' sh /cube/workspace/.image/mlcommonsmnist.sif </dev/null; trap - EXIT INT TERM

# run task train
trap 'sh -c '"'"'trap '"'"'"'"'"'"'"'"''"'"'"'"'"'"'"'"' INT TERM HUP; chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"'"'"' sh /tmp/mlcube-"$RUN_ID"-1 </dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
APPTAINERENV_PYTHONUNBUFFERED=1 sh -c 'mkdir -p -- "${1%/*}" && mkdir -m 700 -- "$1" && mkdir -m 700 -- "$1/home" && mkdir -m 500 -- "$1/empty" || exit 1
printf '"'"'%s\n'"'"' "$2" >"$1/started.sh"
shift 2
exec "$@"' sh /tmp/mlcube-"$RUN_ID"-1 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh' apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/mlcommonsmnist.sif train </dev/null
sh -c 'trap '"'"''"'"' INT TERM HUP; chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"' sh /tmp/mlcube-"$RUN_ID"-1 </dev/null; trap - EXIT INT TERM
