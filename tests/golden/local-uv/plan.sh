#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make the Python environment for 2 requirements
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV sh -c 'touch -c "$1/mlcube-complete" 2>/dev/null
{ read -r count version && place=$(cat); } 2>/dev/null <"$1/mlcube-complete" || exit 1
[ "$place" = "$(cd -P -- "$1" && pwd -P)" ] && [ "$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)" -ge "$count" ] && [ "$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')" = "$version" ]' mlcube /home/user/.cache/mlcube/environments/cpython-3.11.7-096ec692dced2caa45f9 </dev/null) >/dev/null 2>&1 || (cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT -u PIP_PYTHON -u UV_SYSTEM_PYTHON PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1 sh -c 'set -e
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
settings=$("$python" -I -m pip config list 2>/dev/null) || settings=
setting() {
  [ -z "$2" ] || { printf %s "$2"; return; }
  printf '"'"'%s\n'"'"' "$settings" | sed -n "s/^[a-z]*\.$1='"'"'\(.*\)'"'"'\$/\1/p" | sed '"'"'s/\\n/ /g'"'"' | head -n 1
}
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
  UV_INDEX_URL=$(setting index-url "${PIP_INDEX_URL:-}")
  UV_EXTRA_INDEX_URL=$(setting extra-index-url "${PIP_EXTRA_INDEX_URL:-}")
  [ -z "$UV_INDEX_URL" ] || export UV_INDEX_URL
  [ -z "$UV_EXTRA_INDEX_URL" ] || export UV_EXTRA_INDEX_URL UV_INDEX_STRATEGY="${UV_INDEX_STRATEGY:-unsafe-best-match}"
fi
[ -n "${UV_FIND_LINKS:-}" ] || UV_FIND_LINKS=$(setting find-links "${PIP_FIND_LINKS:-}" | tr -s '"'"' '"'"' ,)
[ -z "$UV_FIND_LINKS" ] || export UV_FIND_LINKS
[ -n "${UV_CONSTRAINT:-}" ] || UV_CONSTRAINT=$(setting constraint "${PIP_CONSTRAINT:-}")
[ -z "$UV_CONSTRAINT" ] || export UV_CONSTRAINT
[ -n "${UV_INSECURE_HOST:-}" ] || UV_INSECURE_HOST=$(setting trusted-host "${PIP_TRUSTED_HOST:-}")
[ -z "$UV_INSECURE_HOST" ] || export UV_INSECURE_HOST
[ -n "${SSL_CERT_FILE:-}" ] || SSL_CERT_FILE=$(setting cert "${PIP_CERT:-}")
[ -z "$SSL_CERT_FILE" ] || export SSL_CERT_FILE
case $(setting no-index "${PIP_NO_INDEX:-}") in 1|true|True|yes|on) [ "$#" -eq 0 ] || set -- --no-index "$@" ;; esac
"$tool" venv --python "$python" "$environment"
[ "$#" -eq 0 ] || "$tool" pip install --python "$environment/bin/python" "$@"
set -- "$environment"
count=$(find "$1/" -type f ! -name '"'"'*.pyc'"'"' ! -name mlcube-complete | wc -l)
version=$("$1/bin/python" -I -S -c '"'"'import sys; print("%d.%d.%d" % sys.version_info[:3])'"'"')
place=$(cd -P -- "$1" && pwd -P)
rm -- "$made/making"
printf '"'"'%s %s\n%s\n'"'"' "$count" "$version" "$place" >"$1/mlcube-complete"
ln -sfn "${made##*/}/environment" "$link"' mlcube /home/user/.cache/mlcube/environments/cpython-3.11.7-096ec692dced2caa45f9 /usr/bin/python3.11 /usr/bin/uv /cube torch -e ./package </dev/null)

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH VIRTUAL_ENV=/home/user/.cache/mlcube/environments/cpython-3.11.7-096ec692dced2caa45f9 PYTHONUNBUFFERED=1 PATH=/home/user/.cache/mlcube/environments/cpython-3.11.7-096ec692dced2caa45f9/bin:/usr/bin:/bin env torchrun --standalone train.py train --data_dir=/cube/workspace/data '--parameters_file=/cube/workspace/parameters/it'"'"'s.yaml' --model_dir=/cube/workspace/model --log=/cube/workspace/logs/train.log </dev/null)
