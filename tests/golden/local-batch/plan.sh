#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${TOKEN:?its value is secret and not printed: export TOKEN first}"; export TOKEN

# make the Python environment for numpy
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV sh -c 'touch -c "$1/mlcube-complete" 2>/dev/null
{ read -r count version && place=$(cat); } 2>/dev/null <"$1/mlcube-complete" || exit 1
[ "$place" = "$(cd -P -- "$1" && pwd -P)" ] && [ "$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)" -ge "$count" ] && [ "$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')" = "$version" ]' mlcube /home/user/.cache/mlcube/environments/cpython-3.11.2-aaaa46dd38997cad13bd </dev/null) >/dev/null 2>&1 || (cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_PYTHON -u UV_SYSTEM_PYTHON PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 sh -c 'set -e
link=$1 python=$2 tool=$3
mkdir -p -- "${1%/*}"
[ -L "$1" ] && (touch -c "$1/mlcube-complete" 2>/dev/null
{ read -r count version && place=$(cat); } 2>/dev/null <"$1/mlcube-complete" || exit 1
[ "$place" = "$(cd -P -- "$1" && pwd -P)" ] && [ "$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)" -ge "$count" ] && [ "$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')" = "$version" ]) 2>/dev/null || rm -rf -- "$1"
for old in "$1".*; do
  [ "$(readlink "$1")" = "${old##*/}/environment" ] || rm -rf -- "$old"
done
made=$(mktemp -d "$1.XXXXXX")
environment=$made/environment
: >"$made/making"
cd -- "$4"
shift 4
printf '"'"'%s\n'"'"' "$*" >"$made/requirements"
"$python" -m venv "$environment"
[ "$#" -eq 0 ] || "$environment/bin/python" -m pip install "$@"
set -- "$environment"
count=$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)
version=$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')
place=$(cd -P -- "$1" && pwd -P)
rm -- "$made/making"
printf '"'"'%s %s\n%s\n'"'"' "$count" "$version" "$place" >"$1/mlcube-complete"
ln -sfn "${made##*/}/environment" "$link"' mlcube /home/user/.cache/mlcube/environments/cpython-3.11.2-aaaa46dd38997cad13bd /usr/bin/python3 '' /cube numpy </dev/null)

# make the output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH VIRTUAL_ENV=/home/user/.cache/mlcube/environments/cpython-3.11.2-aaaa46dd38997cad13bd PYTHONUNBUFFERED=1 MLCUBE_BIN=/home/user/.cache/mlcube/environments/cpython-3.11.2-aaaa46dd38997cad13bd/bin MLCUBE_WORK=/cube bash -c 'cd -- "$MLCUBE_WORK"; PATH="${MLCUBE_BIN:+$MLCUBE_BIN:}$PATH"; unset MLCUBE_BIN MLCUBE_WORK
exec "$@"' mlcube /home/user/.cache/mlcube/environments/cpython-3.11.2-aaaa46dd38997cad13bd/bin/python /cube/train.py train --model_dir=/cube/workspace/model </dev/null)
