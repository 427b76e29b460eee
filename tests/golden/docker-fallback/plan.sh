#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: image mnist is not here: it is pulled, and if that fails built from /cube/Dockerfile

# pull image mnist
docker image inspect --format '{{.Id}}' mnist </dev/null >/dev/null 2>&1 || { docker pull mnist </dev/null || docker build --tag mnist --file /cube/Dockerfile --label org.mlcommons.mlcube.inputs=b85c2f19b040759b9355d13db2bdb9fb6f361c56f0c70cc40ef56109b9b41752 /cube </dev/null; }

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 mnist train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
