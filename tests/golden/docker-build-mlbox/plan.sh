#!/bin/sh
# mlcube: platform docker
set -eu

# build image mlperf/mlbox-example-mnist
DOCKER_BUILDKIT=1 docker build --tag mlperf/mlbox-example-mnist --file /cube/implementation/docker/dockerfiles/Dockerfile --label org.mlcommons.mlcube.inputs=b32698e9ad38142ddeb8aa4f3e4d62f5c09b3e2dfa7cf4171fd64484171e7248 /cube </dev/null
