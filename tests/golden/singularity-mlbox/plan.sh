#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# build image /cube/implementation/singularity/recipes/mlbox.simg
test -e /cube/implementation/singularity/recipes/mlbox.simg </dev/null >/dev/null 2>&1 || {
tidy() {
  unshare --map-root-user --map-auto rm -rf -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
  chmod -R u+rwX -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
  rm -rf -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /cube/implementation/singularity/recipes </dev/null
mkdir -p -- /tmp </dev/null
find /cube/implementation/singularity/recipes -maxdepth 1 -type d -user 1000 -name '.mlbox.simg.1000@.*.partial' -exec unshare --map-root-user --map-auto rm -rf -- '{}' ';' </dev/null
find /tmp -maxdepth 1 -type d -user 1000 -name 'mlcube-build-*' -mtime +1 -exec unshare --map-root-user --map-auto rm -rf -- '{}' ';' </dev/null
mkdir -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial </dev/null
mkdir -m 700 -- /tmp/mlcube-build-"$RUN_ID" </dev/null
sh -c '{ cat -- "$1"; printf '"'"'\n\n%%labels\n  %s\n'"'"' "$2"; } >"$3"' sh /cube/implementation/singularity/recipes/Singularity.recipe 'org.mlcommons.mlcube.recipe sha256:19d94c0110e52f746e1d276dabc6ae6461bc851b524fb26a97be8e9c1d0f520e' /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial/recipe </dev/null
(cd /cube && APPTAINER_DISABLE_CACHE=true APPTAINER_TMPDIR=/tmp/mlcube-build-"$RUN_ID" apptainer build --fakeroot /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial/image /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial/recipe </dev/null)
chmod u+w -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial/image </dev/null
mv -f -T -- /cube/implementation/singularity/recipes/.mlbox.simg.1000@."$RUN_ID".partial/image /cube/implementation/singularity/recipes/mlbox.simg </dev/null
tidy; trap - EXIT INT TERM
}

# make output directories
mkdir -p -- /cube/workspace /cube/workspace/.mlcube </dev/null

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
APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/user --pwd /home/user --pid --no-eval --mount type=bind,source=/cube/workspace,destination=/mlcube_io0 --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/empty,destination=/mlcube_io0/.mlcube,ro --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /cube/implementation/singularity/recipes/mlbox.simg --data_dir=/mlcube_io0/data --mlbox_task=train </dev/null
tidy; trap - EXIT INT TERM
