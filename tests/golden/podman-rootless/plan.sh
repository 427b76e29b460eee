#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: the platform asks for a privileged container: the task can do on this machine what root can
# note: the platform puts the task on this machine's own network

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
podman run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --interactive --tty --userns keep-id --network host --privileged --device nvidia.com/gpu=0 --device nvidia.com/gpu=1 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly,relabel=shared --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1,relabel=shared mnist train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1
