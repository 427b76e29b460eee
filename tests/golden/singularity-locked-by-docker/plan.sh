#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# build image /cube/workspace/.image/registryexampleorgmnist1.sif
test -e /cube/workspace/.image/registryexampleorgmnist1.sif </dev/null >/dev/null 2>&1 || {
tidy() {
  chmod -R u+rwX -- /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
  rm -rf -- /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /cube/workspace/.image </dev/null
mkdir -p -- /tmp </dev/null
find /cube/workspace/.image -maxdepth 1 -type d -user 1000 -name '.registryexampleorgmnist1.sif.1000@.*.partial' -exec chmod -R u+rwX -- '{}' ';' -exec rm -rf -- '{}' ';' </dev/null
find /tmp -maxdepth 1 -type d -user 1000 -name 'mlcube-build-*' -mtime +1 -exec chmod -R u+rwX -- '{}' ';' -exec rm -rf -- '{}' ';' </dev/null
mkdir -- /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial </dev/null
mkdir -m 700 -- /tmp/mlcube-build-"$RUN_ID" </dev/null
(cd /cube && APPTAINER_DISABLE_CACHE=true APPTAINER_TMPDIR=/tmp/mlcube-build-"$RUN_ID" apptainer build /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial/image docker://registry.example.org/mnist@sha256:1111111111111111111111111111111111111111111111111111111111111111 </dev/null)
chmod u+w -- /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial/image </dev/null
mv -f -T -- /cube/workspace/.image/.registryexampleorgmnist1.sif.1000@."$RUN_ID".partial/image /cube/workspace/.image/registryexampleorgmnist1.sif </dev/null
tidy; trap - EXIT INT TERM
}

# run task train
tidy() {
  chmod -R u+rwX -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
  rm -rf -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /tmp </dev/null
mkdir -m 700 -- /tmp/mlcube-"$RUN_ID"-1 /tmp/mlcube-"$RUN_ID"-1/home /tmp/mlcube-"$RUN_ID"-1/empty </dev/null
printf %s 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh
' | install -m 666 -- /dev/stdin /tmp/mlcube-"$RUN_ID"-1/started.sh
APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/workspace/.image/registryexampleorgmnist1.sif train </dev/null
tidy; trap - EXIT INT TERM
