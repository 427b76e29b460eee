#!/bin/sh
# mlcube: platform docker
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# make output directories
mkdir -p -- /cube/workspace/model </dev/null

# run task train
bash -c 'if ! command -v module >/dev/null 2>&1; then
  for mlcube_init in "${LMOD_PKG:-}/init/${BASH_VERSION:+ba}sh" "${MODULESHOME:-}/init/${BASH_VERSION:+ba}sh" \
      /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh \
      "/usr/share/lmod/lmod/init/${BASH_VERSION:+ba}sh" "/usr/share/modules/init/${BASH_VERSION:+ba}sh"; do
    if [ -f "$mlcube_init" ]; then . "$mlcube_init"; break; fi
  done
  unset mlcube_init
fi
trap '"'"'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2'"'"' EXIT
set -e
module load podman/5
export TMPDIR=/scratch
set +e; trap - EXIT
exec "$@"' mlcube podman run --rm --init --name mlcube-"$RUN_ID"-1 --label org.mlcommons.mlcube.run="$RUN_ID"-1 --label org.mlcommons.mlcube.cube=mnist --label org.mlcommons.mlcube.task=train --stop-timeout 10 --userns keep-id --env HOME=/tmp --env PYTHONUNBUFFERED=1 --mount type=bind,source=/cube/workspace/data,target=/mlcube_io0,readonly --mount type=bind,source=/cube/workspace/model,target=/mlcube_io1 mnist train --data_dir=/mlcube_io0 --model_dir=/mlcube_io1 </dev/null
