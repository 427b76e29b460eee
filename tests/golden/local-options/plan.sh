#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${SEED:?its value is secret and not printed: export SEED first}"; export SEED
: "${TOKEN:?its value is secret and not printed: export TOKEN first}"; export TOKEN
# note: HOME is passed to the task, but is not set here

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs </dev/null

# run task train
(cd /cube/build && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 CUDA_VISIBLE_DEVICES='' NVIDIA_VISIBLE_DEVICES=void ROCR_VISIBLE_DEVICES='' HIP_VISIBLE_DEVICES=-1 /opt/bin/python3.9 /cube/build/mnist.py --fast train --data_dir=/cube/workspace/data '--parameters_file=/cube/workspace/parameters/it'"'"'s.yaml' --model_dir=/cube/workspace/model --log=/cube/workspace/logs/train.log </dev/null)
