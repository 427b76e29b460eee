#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
tidy() {
  chmod -R u+rwX -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
  rm -rf -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /tmp </dev/null
mkdir -m 700 -- /tmp/mlcube-"$RUN_ID"-1 /tmp/mlcube-"$RUN_ID"-1/home /tmp/mlcube-"$RUN_ID"-1/empty </dev/null
printf %s 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh
' | install -m 666 -- /dev/stdin /tmp/mlcube-"$RUN_ID"-1/started.sh
APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --mount type=bind,source=/cube/workspace/data,destination=/mlcube_io0,ro --mount type=bind,source=/cube/workspace/parameters/a.yaml,destination=/mlcube_io1/a.yaml,ro --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io2 --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/mnist.sif train --data=/mlcube_io0 --parameters=/mlcube_io1/a.yaml --model=/mlcube_io2 </dev/null
tidy; trap - EXIT INT TERM
