#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# pull image registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111
docker image inspect --format '{{.Id}}' registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111 </dev/null >/dev/null 2>&1 || docker pull registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111 </dev/null

# name the locked image registry.example.org/mnist:1
docker tag registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111 registry.example.org/mnist:1 </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111 train </dev/null
