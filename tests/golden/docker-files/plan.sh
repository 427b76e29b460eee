#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make output directories
mkdir -p -- /cube/workspace/out /cube/workspace </dev/null

# run task train
docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/out/raw,target=/mlcube_io0,readonly --mount 'type=bind,"source=/cube/workspace/my, ""odd"" file.yaml","target=/mlcube_io1/my, ""odd"" file.yaml",readonly' --mount type=bind,source=/cube/workspace/out,target=/mlcube_io2 --mount type=bind,source=/cube/workspace,target=/mlcube_io3 --mount type=bind,source=/cube/workspace/out/raw,target=/mlcube_io2/raw,readonly --mount 'type=bind,"source=/cube/workspace/my, ""odd"" file.yaml","target=/mlcube_io3/my, ""odd"" file.yaml",readonly' --mount type=tmpfs,destination=/mlcube_io3/.mlcube,tmpfs-mode=0555,readonly --mount type=bind,source=/cube/workspace/out/raw,target=/mlcube_io3/out/raw,readonly mnist train --raw=/mlcube_io0 '--settings=/mlcube_io1/my, "odd" file.yaml' --out=/mlcube_io2 --report=/mlcube_io3/report.json </dev/null
