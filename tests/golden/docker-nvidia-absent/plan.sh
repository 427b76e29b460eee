#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: nvidia-docker is not here, and docker has no GPU: the task runs on the CPU

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 mnist --data_dir=/mlcube_io0 --mlbox_task=train --model_dir=/mlcube_io1 </dev/null
