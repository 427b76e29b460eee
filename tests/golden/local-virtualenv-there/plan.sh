#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH VIRTUAL_ENV=/home/user/.cache/mlcube/environments/cpython-3.11.7-fa4845ba96061f964656 PYTHONUNBUFFERED=1 PATH=/home/user/.cache/mlcube/environments/cpython-3.11.7-fa4845ba96061f964656/bin:/usr/bin:/bin /home/user/.cache/mlcube/environments/cpython-3.11.7-fa4845ba96061f964656/bin/python /cube/build/mnist.py train --data_dir=/cube/workspace/data '--parameters_file=/cube/workspace/parameters/it'"'"'s.yaml' --model_dir=/cube/workspace/model --log=/cube/workspace/logs/train.log </dev/null)
