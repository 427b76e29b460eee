#!/bin/sh
# mlcube: platform local
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make the implementation's directories
mkdir -p -- /cube/build </dev/null

# make the output directories
mkdir -p -- /cube/workspace/model /cube/workspace/logs </dev/null

# run task train
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 optimizer='adam; rm -rf /' mlbox_task=train data_dir=/cube/workspace/data parameters_file='/cube/workspace/parameters/it'"'"'s.yaml' model_dir=/cube/workspace/model log=/cube/workspace/logs/train.log bash -c 'set -e
mlcube_root=$PWD
./train --data $data_dir
cd -- "$mlcube_root"
echo ${optimizer}' mlcube </dev/null)
