#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

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
SINGULARITYENV_PYTHONUNBUFFERED=1 SINGULARITYENV_PRICE='\$5' SINGULARITY_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 singularity --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --vm-ram 2048 --bind /cube/workspace/data:/mlcube_io0:ro --bind /tmp/mlcube-"$RUN_ID"-1/started.sh:/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/mnist.sif train --data=/mlcube_io0 </dev/null
tidy; trap - EXIT INT TERM
