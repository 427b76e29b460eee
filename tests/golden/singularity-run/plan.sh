#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
trap 'sh -c '"'"'trap '"'"'"'"'"'"'"'"''"'"'"'"'"'"'"'"' INT TERM HUP; chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"'"'"' sh /tmp/mlcube-"$RUN_ID"-1 </dev/null' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
APPTAINERENV_PYTHONUNBUFFERED=1 sh -c 'mkdir -p -- "${1%/*}" && mkdir -m 700 -- "$1" && mkdir -m 700 -- "$1/home" && mkdir -m 500 -- "$1/empty" || exit 1
printf '"'"'%s\n'"'"' "$2" >"$1/started.sh"
shift 2
exec "$@"' sh /tmp/mlcube-"$RUN_ID"-1 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh' apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --mount type=bind,source=/cube/workspace/data,destination=/mlcube_io0,ro --mount type=bind,source=/cube/workspace/parameters/a.yaml,destination=/mlcube_io1/a.yaml,ro --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io2 --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/mnist.sif train --data=/mlcube_io0 --parameters=/mlcube_io1/a.yaml --model=/mlcube_io2 </dev/null
sh -c 'trap '"'"''"'"' INT TERM HUP; chmod -R u+rwX -- "$1" 2>/dev/null; rm -rf -- "$1"' sh /tmp/mlcube-"$RUN_ID"-1 </dev/null; trap - EXIT INT TERM
