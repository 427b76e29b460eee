#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make the Python environment for numpy
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV sh -c 'touch -c "$1/mlcube-complete" 2>/dev/null
{ read -r count version && place=$(cat); } 2>/dev/null <"$1/mlcube-complete" || exit 1
[ "$place" = "$(cd -P -- "$1" && pwd -P)" ] && [ "$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)" -ge "$count" ] && [ "$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')" = "$version" ]' mlcube /home/user/.cache/mlcube/environments/conda-6519249fe89c3fd12f71 </dev/null) >/dev/null 2>&1 || (cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_PYTHON -u UV_SYSTEM_PYTHON PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 sh -c 'set -e
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
"$tool" create --yes --prefix "$environment" "$python" pip
[ "$#" -eq 0 ] || "$environment/bin/python" -m pip install "$@"
set -- "$environment"
count=$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)
version=$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')
place=$(cd -P -- "$1" && pwd -P)
rm -- "$made/making"
printf '"'"'%s %s\n%s\n'"'"' "$count" "$version" "$place" >"$1/mlcube-complete"
ln -sfn "${made##*/}/environment" "$link"' mlcube /home/user/.cache/mlcube/environments/conda-6519249fe89c3fd12f71 python=3.10 conda /cube numpy </dev/null)

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 PATH=/home/user/.cache/mlcube/environments/conda-6519249fe89c3fd12f71/bin:/usr/bin:/bin CONDA_PREFIX=/home/user/.cache/mlcube/environments/conda-6519249fe89c3fd12f71 /home/user/.cache/mlcube/environments/conda-6519249fe89c3fd12f71/bin/python /cube/build/mnist.py train --data_dir=/cube/workspace/data '--parameters_file=/cube/workspace/parameters/it'"'"'s.yaml' --model_dir=/cube/workspace/model --log=/cube/workspace/logs/train.log </dev/null)
