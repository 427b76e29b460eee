#!/bin/sh
# mlcube: platform box
set -eu
# RUN_ID names what this run creates; `mlcube run` makes a new one each time.
RUN_ID=${RUN_ID:-$(date -u +%Y%m%dT%H%M%S)-$$}
# note: this machine has no usable /dev/fuse: the image is unpacked for each run; to do it once: apptainer build --sandbox DIRECTORY /images/mnist.sif, and -Prunner.image=DIRECTORY

# connect to box
sh -c '[ -n "$(find "$1" -prune -type d -user "$2" -perm 700 2>/dev/null)" ] && shift 2 && exec "$@"' sh /tmp/mlcube-1000 1000 ssh -O check -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30 box </dev/null >/dev/null 2>&1 || sh -c 'mkdir -m 700 "$1" 2>/dev/null; [ -n "$(find "$1" -prune -type d -user "$2" -perm 700 2>/dev/null)" ] || { echo "mlcube: others could write into $1" >&2; exit 1; }; shift 2 && exec "$@"' sh /tmp/mlcube-1000 1000 ssh -T -o ControlMaster=auto -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -o ControlPersist=600 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30 box true </dev/null

# make the cube's directory there
text_1() {
cat <<'mlcube_text_ends'
set -eu
umask 077
root=/home/ada/.mlcube/cubes/mnist-1a2b3c4d
marker=$root/.mlcube-remote
cube=digits
for one in "$root" "$marker"; do
  if [ -e "$one" ] && [ -z "$(find -H "$one" -prune -user "$(id -u)")" ]; then
    printf '%s belongs to another user\n' "$one" >&2
    exit 3
  fi
done
if [ ! -e "$marker" ] && [ -e "$root" ] && { ! found=$(ls -A "$root" 2>/dev/null) || [ -n "$found" ]; }; then
  printf '%s is there already, and mlcube did not make it\n' "$root" >&2
  exit 3
fi
mkdir -p "$root"
name=
if [ -s "$marker" ]; then
  { IFS= read -r found || :; IFS= read -r name || :; } < "$marker"
  if [ "$found" != 1a2b3c4d ] && [ "$name" != "$cube" ]; then
    printf '%s belongs to another cube: %s\n' "$root" "$name" >&2
    exit 3
  fi
else
  chmod 700 "$root"
fi
if [ ! -s "$marker" ] || [ "$name" != "$cube" ]; then
  printf '%s\n%s\n' 1a2b3c4d "$cube" > "$marker"
fi
mkdir -p /home/ada/.mlcube/cubes/mnist-1a2b3c4d/code /home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace /home/ada/.mlcube/cubes/mnist-1a2b3c4d/runs /home/ada/.mlcube/cubes/mnist-1a2b3c4d/partial
mlcube_text_ends
}
text_1 | ssh -T -o BatchMode=yes -o ControlMaster=no -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30 box 'exec sh -s'

# send the cube to box
rsync --recursive --links --perms --times --sparse --partial-dir=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/partial --secluded-args --temp-dir=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/partial --compress --modify-window=-1 '--rsh=ssh -T -o BatchMode=yes -o ControlMaster=no -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30' --delete '--filter=- .git' '--filter=- .mlcube' '--filter=- .mlcube-partial' '--filter=- /workspace' '--filter=- *.log' '--filter=- drafts/' '--filter=- *.sif' '--filter=- *.simg' '--filter=- *.img' '--filter=- __pycache__/' '--filter=- .venv/' '--filter=- .tox/' '--filter=- .nox/' '--filter=- .pytest_cache/' '--filter=- .mypy_cache/' '--filter=- .ruff_cache/' '--filter=- .ipynb_checkpoints/' '--filter=- .DS_Store' /cube/ box:/home/ada/.mlcube/cubes/mnist-1a2b3c4d/code/ </dev/null

# send inputs to box
rsync --recursive --links --perms --times --sparse --partial-dir=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/partial --secluded-args --temp-dir=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/partial --compress --modify-window=-1 '--rsh=ssh -T -o BatchMode=yes -o ControlMaster=no -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30' --relative --no-implied-dirs '--filter=+ /data' '--filter=+ /it'"'"'s parameters.yaml' '--filter=- .mlcube' '--filter=- .mlcube-partial' '--filter=- *.log' '--filter=- drafts/' '--filter=- .git' /cube/workspace/./data/ '/cube/workspace/./it'"'"'s parameters.yaml' box:/home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/ </dev/null

# make output directories
mkdir -p -- /home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/model </dev/null

# run task train
tidy() {
  chmod -R u+rwX -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
  rm -rf -- /tmp/mlcube-"$RUN_ID"-1 </dev/null 2>/dev/null || :
}
trap tidy EXIT; trap 'exit 130' INT; trap 'exit 143' TERM
mkdir -p -- /tmp </dev/null
mkdir -m 700 -- /tmp/mlcube-"$RUN_ID"-1 /tmp/mlcube-"$RUN_ID"-1/home /tmp/mlcube-"$RUN_ID"-1/empty </dev/null
printf %s 'if (PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}; command -v "$1" >/dev/null); then echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh; fi
' | install -m 666 -- /dev/stdin /tmp/mlcube-"$RUN_ID"-1/started.sh
APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-"$RUN_ID"-1 apptainer --quiet exec --cleanenv --contain --workdir /tmp/mlcube-"$RUN_ID"-1 --home /tmp/mlcube-"$RUN_ID"-1/home:/home/ada --pwd /home/ada --pid --no-eval --unsquash --mount type=bind,source=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/data,destination=/mlcube_io0,ro --mount 'type=bind,source=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/it'"'"'s parameters.yaml,destination=/mlcube_io1/it'"'"'s parameters.yaml,ro' --mount 'type=bind,source=/scratch/shared set,destination=/mlcube_io2,ro' --mount type=bind,source=/home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/model,destination=/mlcube_io3 --mount type=bind,source=/tmp/mlcube-"$RUN_ID"-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /images/mnist.sif python3 mnist.py --data_dir=/mlcube_io0 '--parameters_file=/mlcube_io1/it'"'"'s parameters.yaml' --shared=/mlcube_io2 --model_dir=/mlcube_io3 </dev/null
tidy; trap - EXIT INT TERM

# fetch outputs from box
rsync --recursive --links --perms --times --sparse --partial-dir=/cube/workspace/.mlcube-partial --secluded-args --compress --modify-window=-1 '--rsh=ssh -T -o BatchMode=yes -o ControlMaster=no -o ControlPath=/tmp/mlcube-1000/6fe4418b653092e1 -l ada -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=30' --ignore-missing-args --relative --no-implied-dirs '--filter=- .mlcube' '--filter=- .mlcube-partial' box:/home/ada/.mlcube/cubes/mnist-1a2b3c4d/workspace/./model/ /cube/workspace/ </dev/null
