#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs /cube/workspace/deep </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /opt/mlcube/bin/python3 /cube/implementation/src/mnist.py --mlbox_task train --data_dir=/cube/workspace/data '--parameters_file=/cube/workspace/parameters/it'"'"'s.yaml' --model_dir=/cube/workspace/model --log=/cube/workspace/logs/train.log --out=/cube/workspace/deep/out </dev/null)
