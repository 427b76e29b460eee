#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# build image mlcommons/mnist:0.0.1
docker image inspect --format '{{.Id}}' mlcommons/mnist:0.0.1 </dev/null >/dev/null 2>&1 || docker build --tag mlcommons/mnist:0.0.1 --file /cube/build/Dockerfile --label org.mlcommons.mlcube.inputs=b80c776a4201d1ef8ac613fb82f71a24d6d0aed024783b5e1d5bad519ae1adbd --build-arg http_proxy --build-arg BASE=debian:12 --build-arg LEVEL=2 /cube/build </dev/null

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --env http_proxy --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 mlcommons/mnist:0.0.1 train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
