#!/bin/sh
# mlcube: platform singularity
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}

# build image /cube/workspace/images/mnist.simg
tidy() {
  unshare --map-root-user --map-auto rm -rf -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
  chmod -R u+rwX -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
  rm -rf -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial /tmp/mlcube-build-"$RUN_ID" </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /cube/workspace/images </dev/null
mkdir -p -- /tmp </dev/null
find /cube/workspace/images -maxdepth 1 -type d -user 1000 -name '.mnist.simg.1000@.*.partial' -exec unshare --map-root-user --map-auto rm -rf -- '{}' ';' </dev/null
find /tmp -maxdepth 1 -type d -user 1000 -name 'mlcube-build-*' -mtime +1 -exec unshare --map-root-user --map-auto rm -rf -- '{}' ';' </dev/null
mkdir -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial </dev/null
mkdir -m 700 -- /tmp/mlcube-build-"$RUN_ID" </dev/null
sh -c '{ cat -- "$1"; printf '"'"'\n\n%%labels\n  %s\n'"'"' "$2"; } >"$3"' sh /cube/build/Singularity.recipe 'org.mlcommons.mlcube.recipe sha256:f4d6e78d725277d84f2c7f1b7dc5429f436fa956ea7504ebf901ca80301e3941' /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial/recipe </dev/null
(cd /cube/build && APPTAINER_DISABLE_CACHE=true APPTAINER_TMPDIR=/tmp/mlcube-build-"$RUN_ID" apptainer build --fakeroot /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial/image /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial/recipe </dev/null)
chmod u+w -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial/image </dev/null
mv -f -T -- /cube/workspace/images/.mnist.simg.1000@."$RUN_ID".partial/image /cube/workspace/images/mnist.simg </dev/null
tidy; trap - EXIT INT TERM
