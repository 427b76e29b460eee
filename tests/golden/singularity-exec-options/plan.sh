#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
: "${SINGULARITYENV_GREETING:?its value is secret and not printed: export SINGULARITYENV_GREETING first}"; export SINGULARITYENV_GREETING
: "${SINGULARITYENV_HF_TOKEN:?its value is secret and not printed: export SINGULARITYENV_HF_TOKEN first}"; export SINGULARITYENV_HF_TOKEN
# note: CUDA_VISIBLE_DEVICES allows 2,3: the task gets 2

# make output directories
mkdir -p -- /cube/workspace /cube/workspace/.mlcube </dev/null

# run task train
tidy() {
  chmod -R u+rwX -- /scratch/tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
  rm -rf -- /scratch/tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /scratch/tmp </dev/null
mkdir -m 700 -- /scratch/tmp/mlcube-"$RUN_ID"-1 /scratch/tmp/mlcube-"$RUN_ID"-1/home /scratch/tmp/mlcube-"$RUN_ID"-1/empty </dev/null
printf %s 'if (PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}; command -v "$1" >/dev/null); then echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh; fi
' | install -m 666 -- /dev/stdin /scratch/tmp/mlcube-"$RUN_ID"-1/started.sh
env -u SINGULARITYENV_LEAK NVIDIA_VISIBLE_DEVICES=2 SINGULARITYENV_CUDA_VISIBLE_DEVICES=2 SINGULARITYENV_SLURM_JOB_ID=7 SINGULARITYENV_PYTHONUNBUFFERED=1 SINGULARITYENV_NVIDIA_VISIBLE_DEVICES=2 SINGULARITY_TMPDIR=/scratch/tmp/mlcube-"$RUN_ID"-1 bash -c 'if ! command -v module >/dev/null 2>&1; then
  for mlcube_init in "${LMOD_PKG:-}/init/${BASH_VERSION:+ba}sh" "${MODULESHOME:-}/init/${BASH_VERSION:+ba}sh" \
      /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \
      "/usr/share/lmod/lmod/init/${BASH_VERSION:+ba}sh" "/usr/share/modules/init/${BASH_VERSION:+ba}sh"; do
    if [ -f "$mlcube_init" ]; then . "$mlcube_init"; break; fi
  done
  unset mlcube_init
fi
trap '"'"'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2'"'"' EXIT
set -e
module load cuda/12
set +e; trap - EXIT
exec "$@"' mlcube singularity --quiet exec --cleanenv --contain --workdir /scratch/tmp/mlcube-"$RUN_ID"-1 --home /scratch/tmp/mlcube-"$RUN_ID"-1/home:/home/user --pid --no-eval --net --network none --pwd /work --memory 4g --nv --mount type=bind,source=/cube/workspace,destination=/mlcube_io0 --mount type=bind,source=/scratch/tmp/mlcube-"$RUN_ID"-1/empty,destination=/mlcube_io0/.mlcube,ro --mount type=bind,source=/scratch/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh --bind /scratch:/scratch:ro --hostname box /cube/workspace/.image/mnist.sif python main.py --out=/mlcube_io0 </dev/null
tidy; trap - EXIT INT TERM
