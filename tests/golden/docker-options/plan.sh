#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${TOKEN:?its value is secret and not printed: export TOKEN first}"; export TOKEN
: "${COUNT:?its value is secret and not printed: export COUNT first}"; export COUNT
: "${FLAG:?its value is secret and not printed: export FLAG first}"; export FLAG
# note: 'run_args': -t is left out, since there is no terminal without --interactive
# note: 'env' passes ABSENT on, but it is not set here

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
sudo --preserve-env=http_proxy,TOKEN,COUNT,FLAG,WANDB_MODE docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 3 --runtime nvidia --network none --memory 4g --cpuset-cpus 0-1 --shm-size 1g --workdir /work --security-opt no-new-privileges --publish 8080:80 --publish 9090:90 --env PYTHONUNBUFFERED=1 --env http_proxy --env TOKEN --env COUNT --env FLAG --env WANDB_MODE --env HOME=/home/me --env 'EXTRA=a b' --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly,consistency=cached --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1,consistency=cached --ulimit core=0 -v /home/user/.ssh:/keys --hostname box -i --entrypoint=python3 registry.example.org/group/mnist:1.0 train.py --fast --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
