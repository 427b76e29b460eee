#!/bin/sh
# mlcube: platform docker
set -eu
# note: this docker has no BuildKit: the workspace is sent to the daemon with /cube; install docker-buildx, or name the workspace in .dockerignore

# build image mlperf/mlbox-example-mnist
DOCKER_BUILDKIT=0 docker build --tag mlperf/mlbox-example-mnist --file /cube/implementation/docker/dockerfiles/Dockerfile --no-cache --label org.mlcommons.mlcube.inputs=b32698e9ad38142ddeb8aa4f3e4d62f5c09b3e2dfa7cf4171fd64484171e7248 /cube </dev/null
