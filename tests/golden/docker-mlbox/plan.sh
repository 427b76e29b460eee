#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make output directories
mkdir -p -- /cube/workspace /cube/workspace/model /cube/workspace/.mlcube </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/parameters/default.parameters.yaml,target=/mlcube_io0/default.parameters.yaml,readonly --mount type=bind,source=/cube/workspace/data,target=/mlcube_io1,readonly --mount type=bind,source=/cube/workspace,target=/mlcube_io2 --mount type=bind,source=/cube/workspace/model,target=/mlcube_io3 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io2/data,readonly --mount type=tmpfs,destination=/mlcube_io2/.mlcube,tmpfs-mode=0555,readonly --mount type=bind,source=/cube/workspace/parameters/default.parameters.yaml,target=/mlcube_io2/parameters/default.parameters.yaml,readonly mlperf/mlbox-example-mnist --data_dir=/mlcube_io1 --log_dir=/mlcube_io2/log --mlbox_task=train --model_dir=/mlcube_io3 --parameters_file=/mlcube_io0/default.parameters.yaml </dev/null
