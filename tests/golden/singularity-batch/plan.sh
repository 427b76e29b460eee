#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${APPTAINERENV_TOKEN:?its value is secret and not printed: export APPTAINERENV_TOKEN first}"; export APPTAINERENV_TOKEN
: "${APPTAINERENV_NCCL_DEBUG:?its value is secret and not printed: export APPTAINERENV_NCCL_DEBUG first}"; export APPTAINERENV_NCCL_DEBUG

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
tidy() {
  chmod -R u+rwX -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
  rm -rf -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
sh -c 'mkdir -m 700 -- "$1" 2>/dev/null || { [ -O "$1" ] && [ ! -L "$1" ]; } || mkdir -m 700 -- "$1" || exit
mkdir -p -m 700 -- "$@"' mlcube /tmp/mlcube-"$RUN_ID"-1 /tmp/mlcube-"$RUN_ID"-1/home /tmp/mlcube-"$RUN_ID"-1/empty </dev/null
printf %s 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh
' | install -m 666 -- /dev/stdin /tmp/mlcube-"$RUN_ID"-1/started.sh
APPTAINERENV_https_proxy=http://proxy:3128 APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 bash -c 'for mlcube_name in $(env | sed -n '"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'); do
  case $mlcube_name in
    APPTAINERENV_NCCL_DEBUG|APPTAINERENV_PYTHONUNBUFFERED|APPTAINERENV_TOKEN|APPTAINERENV_https_proxy) ;;
    APPTAINERENV_*|SINGULARITYENV_*) unset "$mlcube_name" ;;
  esac
done
unset mlcube_name
if ! command -v module >/dev/null 2>&1; then
  for mlcube_init in "${LMOD_PKG:-}/init/${BASH_VERSION:+ba}sh" "${MODULESHOME:-}/init/${BASH_VERSION:+ba}sh" \
      /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \
      "/usr/share/lmod/lmod/init/${BASH_VERSION:+ba}sh" "/usr/share/modules/init/${BASH_VERSION:+ba}sh"; do
    if [ -f "$mlcube_init" ]; then . "$mlcube_init"; break; fi
  done
  unset mlcube_init
fi
trap '"'"'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2'"'"' EXIT
set -e
module load apptainer
set +e; trap - EXIT
[ -z "${CUDA_VISIBLE_DEVICES-}" ] || export NVIDIA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
for mlcube_name in $(env | sed -n '"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'); do
  case $mlcube_name in
    SLURM_JWT) ;;
    SLURM_*|PMI_*|PMIX_*|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK|MASTER_ADDR|MASTER_PORT|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|SLURMD_NODENAME)
      eval "mlcube_value=\$$mlcube_name"
      eval "APPTAINERENV_$mlcube_name=\$mlcube_value; export APPTAINERENV_$mlcube_name" ;;
  esac
done
unset mlcube_name mlcube_value
exec "$@"' mlcube apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount type=bind,source=/cube/workspace/data,destination=/mlcube_io0,ro --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/mnist.sif train --data=/mlcube_io0 --model=/mlcube_io1 </dev/null
tidy; trap - EXIT INT TERM
