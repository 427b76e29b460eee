#!/bin/sh
# mlcube: platform docker
set -eu

# build image mlperf/mlbox-example-mnist
DOCKER_BUILDKIT=1 docker build --tag mlperf/mlbox-example-mnist --file /cube/implementation/docker/dockerfiles/Dockerfile --label org.mlcommons.mlcube.inputs=0f68ac254c95e84d3743a2badc16a431dde9331e78b9b4142626f7f046b277c3 /cube </dev/null
