#!/bin/sh
#SBATCH --job-name=handwritten-digits-train
#SBATCH --partition=gpu
#SBATCH --account=vision
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --constraint=ib&(a|b)
#SBATCH --time=02:00:00
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --gres=gpu:a100:2,lscratch:100
#SBATCH --exclusive
#SBATCH --signal=B:XCPU@120
#SBATCH --export=NONE
#SBATCH --reservation=mine
#SBATCH --nice
#SBATCH --output="/shared/runs/it's 100%% \"mine\"/1/slurm.log"
#SBATCH --open-mode=append

# mlcube: task 'train' on singularity, in '/shared/runs/it'"'"'s 100% "mine"/1'
# by hand: mkdir -p '/shared/runs/it'"'"'s 100% "mine"/1', then sbatch this file
# make output directories:
#   mkdir -p -- /cube/workspace/model
# run task train:
#   sh -c ... mlcube /tmp/mlcube-20260102T030405-77-1 /tmp/mlcube-20260102T030405-77-1/home /tmp/mlcube-20260102T030405-77-1/empty
#   install -m 666 -- /dev/stdin /tmp/mlcube-20260102T030405-77-1/started.sh
#   APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-20260102T030405-77-1 bash -c ... mlcube apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-20260102T030405-77-1 --home /tmp/mlcube-20260102T030405-77-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount 'type=bind,source=/shared/my data,destination=/mlcube_io0,ro' --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-20260102T030405-77-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /shared/mnist.sif train --data=/mlcube_io0 --model=/mlcube_io1
#   chmod -R u+rwX -- /tmp/mlcube-20260102T030405-77-1
#   rm -rf -- /tmp/mlcube-20260102T030405-77-1
[ $# -gt 0 ] || set -- "$(umask)"
MLCUBE_JOB_DIRECTORY='/shared/runs/it'"'"'s 100% "mine"/1'; export MLCUBE_JOB_DIRECTORY
(umask 077; mkdir -p -- '/shared/runs/it'"'"'s 100% "mine"/1/20260102T030405-77-1')
# mlcube: supervises one run, until its end
# (here stands what every supervised run has in common)

mlc_directory='/shared/runs/it'"'"'s 100% "mine"/1' mlc_locks='' mlc_token=f6faef0e0939
mlc_each_secret() { :; }
mlc_each_task() { "$1" 20260102T030405-77-1 '/shared/runs/it'"'"'s 100% "mine"/1/20260102T030405-77-1'; :; }
mlc_c1() {
  mlc_become mkdir mkdir -p -- /cube/workspace/model
}
mlc_text_1() { mlc_text='$ mkdir -p -- /cube/workspace/model'; }
mlc_set_1() { mlc_new_step; mlc_title='make output directories' mlc_step=1 mlc_fallback='check the permissions, or give another path' mlc_command=mlc_c1; }
mlc_c2() {
  mlc_become sh sh -c 'mkdir -m 700 -- "$1" 2>/dev/null || { [ -O "$1" ] && [ ! -L "$1" ]; } || mkdir -m 700 -- "$1" || exit
mkdir -p -m 700 -- "$@"' mlcube /tmp/mlcube-20260102T030405-77-1 /tmp/mlcube-20260102T030405-77-1/home /tmp/mlcube-20260102T030405-77-1/empty
}
mlc_text_2() { mlc_text='$ sh -c '"'"'mkdir -m 700 -- "$1" 2>/dev/null || { [ -O "$1" ] && [ ! -L "$1" ]; } || mkdir -m 700 -- "$1" || exit
mkdir -p -m 700 -- "$@"'"'"' mlcube /tmp/mlcube-20260102T030405-77-1 /tmp/mlcube-20260102T030405-77-1/home /tmp/mlcube-20260102T030405-77-1/empty'; }
mlc_c3() {
  printf %b 'echo '"'"'# started'"'"' >/.singularity.d/env/zz-mlcube.sh
' >"$mlc_directory/input.3"; exec <"$mlc_directory/input.3"
  mlc_become install install -m 666 -- /dev/stdin /tmp/mlcube-20260102T030405-77-1/started.sh
}
mlc_text_3() { mlc_text='$ install -m 666 -- /dev/stdin /tmp/mlcube-20260102T030405-77-1/started.sh'; }
mlc_c4() {
  APPTAINERENV_PYTHONUNBUFFERED=1; export APPTAINERENV_PYTHONUNBUFFERED
  APPTAINER_TMPDIR=/tmp/mlcube-20260102T030405-77-1; export APPTAINER_TMPDIR
  mlc_become bash bash -c 'for mlcube_name in $(env | sed -n '"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'); do
  case $mlcube_name in
    APPTAINERENV_PYTHONUNBUFFERED) ;;
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
module load apptainer/1.3
if [ -n "${SLURMD_NODENAME-}" ]; then
ulimit -n 4096
fi
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
exec "$@"' mlcube apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-20260102T030405-77-1 --home /tmp/mlcube-20260102T030405-77-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount 'type=bind,source=/shared/my data,destination=/mlcube_io0,ro' --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-20260102T030405-77-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /shared/mnist.sif train --data=/mlcube_io0 --model=/mlcube_io1
}
mlc_text_4() { mlc_text='$ APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-20260102T030405-77-1 bash -c '"'"'for mlcube_name in $(env | sed -n '"'"'"'"'"'"'"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'"'"'"'"'"'"'); do
  case $mlcube_name in
    APPTAINERENV_PYTHONUNBUFFERED) ;;
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
trap '"'"'"'"'"'"'"'"'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2'"'"'"'"'"'"'"'"' EXIT
set -e
module load apptainer/1.3
if [ -n "${SLURMD_NODENAME-}" ]; then
ulimit -n 4096
fi
set +e; trap - EXIT
[ -z "${CUDA_VISIBLE_DEVICES-}" ] || export NVIDIA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
for mlcube_name in $(env | sed -n '"'"'"'"'"'"'"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'"'"'"'"'"'"'); do
  case $mlcube_name in
    SLURM_JWT) ;;
    SLURM_*|PMI_*|PMIX_*|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK|MASTER_ADDR|MASTER_PORT|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|SLURMD_NODENAME)
      eval "mlcube_value=\$$mlcube_name"
      eval "APPTAINERENV_$mlcube_name=\$mlcube_value; export APPTAINERENV_$mlcube_name" ;;
  esac
done
unset mlcube_name mlcube_value
exec "$@"'"'"' mlcube apptainer --quiet run --cleanenv --contain --workdir /tmp/mlcube-20260102T030405-77-1 --home /tmp/mlcube-20260102T030405-77-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount '"'"'type=bind,source=/shared/my data,destination=/mlcube_io0,ro'"'"' --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-20260102T030405-77-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /shared/mnist.sif train --data=/mlcube_io0 --model=/mlcube_io1'; }
mlc_c5() {
  mlc_become chmod chmod -R u+rwX -- /tmp/mlcube-20260102T030405-77-1
}
mlc_text_5() { mlc_text='$ chmod -R u+rwX -- /tmp/mlcube-20260102T030405-77-1'; }
mlc_c6() {
  mlc_become rm rm -rf -- /tmp/mlcube-20260102T030405-77-1
}
mlc_text_6() { mlc_text='$ rm -rf -- /tmp/mlcube-20260102T030405-77-1'; }
mlc_c7() {
  mlc_become grep grep -s -x '# started' /tmp/mlcube-20260102T030405-77-1/started.sh
}
mlc_text_7() { mlc_text='$ grep -s -x '"'"'# started'"'"' /tmp/mlcube-20260102T030405-77-1/started.sh'; }
mlc_c8() {
  APPTAINERENV_PYTHONUNBUFFERED=1; export APPTAINERENV_PYTHONUNBUFFERED
  APPTAINER_TMPDIR=/tmp/mlcube-20260102T030405-77-1; export APPTAINER_TMPDIR
  mlc_become bash bash -c 'for mlcube_name in $(env | sed -n '"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'); do
  case $mlcube_name in
    APPTAINERENV_PYTHONUNBUFFERED) ;;
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
module load apptainer/1.3
if [ -n "${SLURMD_NODENAME-}" ]; then
ulimit -n 4096
fi
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
exec "$@"' mlcube apptainer --quiet exec --cleanenv --contain --workdir /tmp/mlcube-20260102T030405-77-1 --home /tmp/mlcube-20260102T030405-77-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount 'type=bind,source=/shared/my data,destination=/mlcube_io0,ro' --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-20260102T030405-77-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /shared/mnist.sif true
}
mlc_text_8() { mlc_text='$ APPTAINERENV_PYTHONUNBUFFERED=1 APPTAINER_TMPDIR=/tmp/mlcube-20260102T030405-77-1 bash -c '"'"'for mlcube_name in $(env | sed -n '"'"'"'"'"'"'"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'"'"'"'"'"'"'); do
  case $mlcube_name in
    APPTAINERENV_PYTHONUNBUFFERED) ;;
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
trap '"'"'"'"'"'"'"'"'echo "mlcube: setup ended with exit code $? at: ${BASH_COMMAND:-one of its lines}" >&2'"'"'"'"'"'"'"'"' EXIT
set -e
module load apptainer/1.3
if [ -n "${SLURMD_NODENAME-}" ]; then
ulimit -n 4096
fi
set +e; trap - EXIT
[ -z "${CUDA_VISIBLE_DEVICES-}" ] || export NVIDIA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
for mlcube_name in $(env | sed -n '"'"'"'"'"'"'"'"'s/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'"'"'"'"'"'"'"'"'); do
  case $mlcube_name in
    SLURM_JWT) ;;
    SLURM_*|PMI_*|PMIX_*|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|GPU_DEVICE_ORDINAL|ZE_AFFINITY_MASK|MASTER_ADDR|MASTER_PORT|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|NODE_RANK|SLURMD_NODENAME)
      eval "mlcube_value=\$$mlcube_name"
      eval "APPTAINERENV_$mlcube_name=\$mlcube_value; export APPTAINERENV_$mlcube_name" ;;
  esac
done
unset mlcube_name mlcube_value
exec "$@"'"'"' mlcube apptainer --quiet exec --cleanenv --contain --workdir /tmp/mlcube-20260102T030405-77-1 --home /tmp/mlcube-20260102T030405-77-1/home:/home/user --pwd /home/user --pid --no-eval --nv --mount '"'"'type=bind,source=/shared/my data,destination=/mlcube_io0,ro'"'"' --mount type=bind,source=/cube/workspace/model,destination=/mlcube_io1 --mount type=bind,source=/tmp/mlcube-20260102T030405-77-1/started.sh,destination=/.singularity.d/env/zz-mlcube.sh /shared/mnist.sif true'; }
mlc_reasons_2() {
  case $1 in
    *'failed to create user namespace'*) mlc_reason='this machine gives ordinary users no user namespaces' mlc_help='ask an administrator for '"'"'sysctl user.max_user_namespaces=15000'"'"' (Ubuntu: and '"'"'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"'"'), or for the package apptainer-suid';;
    *'failed to create container process'*) mlc_reason='this machine gives ordinary users no user namespaces' mlc_help='ask an administrator for '"'"'sysctl user.max_user_namespaces=15000'"'"' (Ubuntu: and '"'"'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"'"'), or for the package apptainer-suid';;
    *'user namespace not supported'*) mlc_reason='this machine gives ordinary users no user namespaces' mlc_help='ask an administrator for '"'"'sysctl user.max_user_namespaces=15000'"'"' (Ubuntu: and '"'"'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"'"'), or for the package apptainer-suid';;
    *'user namespaces are not supported'*) mlc_reason='this machine gives ordinary users no user namespaces' mlc_help='ask an administrator for '"'"'sysctl user.max_user_namespaces=15000'"'"' (Ubuntu: and '"'"'sysctl kernel.apparmor_restrict_unprivileged_userns=0'"'"'), or for the package apptainer-suid';;
    *'no mapping entry found in /etc/subuid'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'no mapping entry found in /etc/subgid'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'not listed in /etc/subuid, fakeroot'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'libs/faked: not found'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'newuidmap was not found'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'error while starting the `faked'"'"' daemon'*) mlc_reason='you have no range of user ids in /etc/subuid and /etc/subgid, which --fakeroot takes' mlc_help='ask an administrator for '"'"'usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME'"'"', or try -Prunner.build_args='"'"'--fakeroot --ignore-fakeroot-command'"'"'';;
    *'no space left on device'*) mlc_reason='the disk is full' mlc_help='make room where the image goes, or give another place for temporary files: -Prunner.tmpdir=DIRECTORY';;
    *'disk quota exceeded'*) mlc_reason='the disk is full' mlc_help='make room where the image goes, or give another place for temporary files: -Prunner.tmpdir=DIRECTORY';;
    *squashfuse*) mlc_reason='the image'"'"'s file cannot be mounted, since FUSE does not work here (/dev/fuse, squashfuse, fusermount)' mlc_help='unpack it into a directory once, '"'"'apptainer build --sandbox DIRECTORY IMAGE.sif'"'"', and name that: -Prunner.image=DIRECTORY; or -Prunner.run_args=--unsquash';;
    *fusermount*) mlc_reason='the image'"'"'s file cannot be mounted, since FUSE does not work here (/dev/fuse, squashfuse, fusermount)' mlc_help='unpack it into a directory once, '"'"'apptainer build --sandbox DIRECTORY IMAGE.sif'"'"', and name that: -Prunner.image=DIRECTORY; or -Prunner.run_args=--unsquash';;
    */dev/fuse*) mlc_reason='the image'"'"'s file cannot be mounted, since FUSE does not work here (/dev/fuse, squashfuse, fusermount)' mlc_help='unpack it into a directory once, '"'"'apptainer build --sandbox DIRECTORY IMAGE.sif'"'"', and name that: -Prunner.image=DIRECTORY; or -Prunner.run_args=--unsquash';;
    *'image format not recognized'*) mlc_reason='the image'"'"'s file is none that this engine knows' mlc_help='build it anew: mlcube configure --force';;
    *'network requires root'*) mlc_reason='an ordinary user gets the network '"'"'none'"'"' or the machine'"'"'s own, and no other' mlc_help='write '"'"'network: none'"'"' or leave it out, or ask an administrator to allow the network in apptainer.conf';;
    *'cannot use cgroups'*) mlc_reason='this machine lets ordinary users set no limits on memory and processors' mlc_help='it takes systemd, cgroups v2 and a session of yours; leave '"'"'memory'"'"', '"'"'cpuset_cpus'"'"' and --memory, --cpu out';;
    *'cgroups config'*) mlc_reason='this machine lets ordinary users set no limits on memory and processors' mlc_help='it takes systemd, cgroups v2 and a session of yours; leave '"'"'memory'"'"', '"'"'cpuset_cpus'"'"' and --memory, --cpu out';;
    *'failed to set working directory'*) mlc_reason=''"'"'workdir'"'"' is not in the image' mlc_help='name a directory of the image';;
    *'unknown flag'*) mlc_reason='this version of the engine does not know one of the platform'"'"'s words' mlc_help='its message stands above; look at '"'"'run_args'"'"', or at what --help lists';;
    *'unknown shorthand flag'*) mlc_reason='this version of the engine does not know one of the platform'"'"'s words' mlc_help='its message stands above; look at '"'"'run_args'"'"', or at what --help lists';;
    *'mount source'*) mlc_reason='a path to be mounted is not there' mlc_help='its message stands above; look at '"'"'binds'"'"' and '"'"'run_args'"'"'';;
    *'mount proc'*) mlc_reason='this machine allows no process name space of its own (as inside some containers)' mlc_help='-Prunner.run_args=--pid=false; then processes that the task leaves running may outlive it';;
  esac
}
mlc_set_2() { mlc_new_step; mlc_title='run task train' mlc_step=2 mlc_fallback='the engine'"'"'s own message stands above' mlc_before='mlc_c2 mlc_c3' mlc_command=mlc_c4 mlc_after='mlc_c5 mlc_c6' mlc_payload=1 mlc_passes_on=1 mlc_sign=mlc_c7 mlc_why=mlc_c8 mlc_reasons=mlc_reasons_2; }
mlc_everything() {
  mlc_begin_task 20260102T030405-77-1 '/shared/runs/it'"'"'s 100% "mine"/1/20260102T030405-77-1' train 10 10 ''
  mlc_set_1 && mlc_carry_out && mlc_set_2 && mlc_carry_out
  mlc_end_task || return
  :
}
mlc_go "$@"
exit "${mlc_exit:-0}"  # what the next job waits for
