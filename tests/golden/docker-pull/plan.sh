#!/bin/sh
# mlcube: platform docker
set -eu

# pull image mnist
{ docker pull mnist </dev/null || docker image inspect --format '{{.Id}}' mnist </dev/null; }
