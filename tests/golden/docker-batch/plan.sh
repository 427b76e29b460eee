#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${TOKEN:?its value is secret and not printed: export TOKEN first}"; export TOKEN
# note: whether image mnist is there is seen on the node; where it is not, the job begins with getting it: see to it that nodes have it, or reach its registry

# pull image mnist
docker image inspect --format '{{.Id}}' mnist </dev/null >/dev/null 2>&1 || docker pull mnist </dev/null

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
bash -c 'mlcube_devices=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-${CUDA_VISIBLE_DEVICES:-}}} mlcube_at=0
for mlcube_word do
  [ "$mlcube_at" -gt 0 ] || set --
  set -- "$@" "$mlcube_word"
  mlcube_at=$((mlcube_at + 1))
  if [ "$mlcube_at" -eq 2 ]; then
    if [ -n "$mlcube_devices" ]; then
      set -- "$@" --gpus "\"device=$mlcube_devices\""
    else set -- "$@" --gpus all
    fi
  fi
done
unset mlcube_devices mlcube_at mlcube_word
exec "$@"' mlcube docker run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --user 1000:1000 --env HOME=/tmp --env PYTHONUNBUFFERED=1 --env https_proxy=http://proxy:3128 --env MASTER_ADDR --env MASTER_PORT --env RANK --env LOCAL_RANK --env WORLD_SIZE --env LOCAL_WORLD_SIZE --env NODE_RANK --env SLURMD_NODENAME --env SLURM_ARRAY_JOB_ID --env SLURM_ARRAY_TASK_COUNT --env SLURM_ARRAY_TASK_ID --env SLURM_ARRAY_TASK_MAX --env SLURM_ARRAY_TASK_MIN --env SLURM_CLUSTER_NAME --env SLURM_CPUS_ON_NODE --env SLURM_CPUS_PER_TASK --env SLURM_GPUS_ON_NODE --env SLURM_JOB_ACCOUNT --env SLURM_JOB_CPUS_PER_NODE --env SLURM_JOB_END_TIME --env SLURM_JOB_ID --env SLURM_JOB_NAME --env SLURM_JOB_NODELIST --env SLURM_JOB_NUM_NODES --env SLURM_JOB_PARTITION --env SLURM_JOB_QOS --env SLURM_JOB_START_TIME --env SLURM_LOCALID --env SLURM_MEM_PER_CPU --env SLURM_MEM_PER_NODE --env SLURM_NNODES --env SLURM_NODEID --env SLURM_NPROCS --env SLURM_NTASKS --env SLURM_NTASKS_PER_NODE --env SLURM_PROCID --env SLURM_RESTART_COUNT --env SLURM_STEP_ID --env SLURM_SUBMIT_DIR --env SLURM_TASKS_PER_NODE --env TOKEN --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 mnist train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
