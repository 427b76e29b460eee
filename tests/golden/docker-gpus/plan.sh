#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: CUDA_VISIBLE_DEVICES allows 4,5,6: the task gets 4,5

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --gpus '"device=4,5"' --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 --ipc=host mnist train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
