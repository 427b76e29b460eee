#!/bin/sh
#SBATCH --job-name=mnist-train
#SBATCH --export=NONE
#SBATCH --output=/cube/workspace/.mlcube/runs/20260102T030405-77/1/slurm.log
#SBATCH --open-mode=append

# mlcube: task 'train' on local, in /cube/workspace/.mlcube/runs/20260102T030405-77/1
# by hand: mkdir -p /cube/workspace/.mlcube/runs/20260102T030405-77/1, then sbatch this file
# copy inputs to the node:
#   sh -c ... mlcube /tmp/mlcube-scratch-20260102T030405-77-1 in 0 /cube/workspace/data data out 1 /cube/workspace/model model out 2 /cube/workspace/log.txt log.txt
# make the output directories:
#   mkdir -p -- /tmp/mlcube-scratch-20260102T030405-77-1/1/model /tmp/mlcube-scratch-20260102T030405-77-1/2
# run task train:
#   cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train --data=/tmp/mlcube-scratch-20260102T030405-77-1/0/data --model=/tmp/mlcube-scratch-20260102T030405-77-1/1/model --start=/tmp/mlcube-scratch-20260102T030405-77-1/1/model/start.bin --log=/tmp/mlcube-scratch-20260102T030405-77-1/2/log.txt
#   sh -c ... mlcube /tmp/mlcube-scratch-20260102T030405-77-1 1/model /cube/workspace/model 2/log.txt /cube/workspace/log.txt
#   sh -c ... mlcube /tmp/mlcube-scratch-20260102T030405-77-1 1/model /cube/workspace/model 2/log.txt /cube/workspace/log.txt
#   sh -c ... mlcube /tmp/mlcube-scratch-20260102T030405-77-1
[ $# -gt 0 ] || set -- "$(umask)"
MLCUBE_JOB_DIRECTORY=/cube/workspace/.mlcube/runs/20260102T030405-77/1; export MLCUBE_JOB_DIRECTORY
(umask 077; mkdir -p -- /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1)
# mlcube: supervises one run, until its end
# (here stands what every supervised run has in common)

mlc_directory=/cube/workspace/.mlcube/runs/20260102T030405-77/1 mlc_locks='' mlc_token=9a139fa6f20d
mlc_each_secret() { :; }
mlc_each_task() { "$1" 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1; :; }
mlc_c1() {
  mlc_become sh sh -c 'set -eu
umask 077
place=/local/"${USER:?scratch: it is not set on the node}"'"'"'/it'"'"'"'"'"'"'"'"'s mine'"'"'
link=$1
shift
if [ ! -d "$place" ] || [ ! -w "$place" ]; then
  echo "scratch: $place is no directory that can be written to on $(uname -n)" >&2
  exit 1
fi
room=$place/mlcube-staged-${link##*/mlcube-scratch-}
rm -rf -- "$room" "$link"
mkdir -- "$room"
ln -s -- "$room" "$link"
needed=0
number=$#
while [ "$number" -gt 0 ]; do
  if [ -e "$3" ]; then
    size=$(du -s -k -H -- "$3" | { read -r size rest; echo "$size"; })
    needed=$((needed + size))
  fi
  set -- "$@" "$1" "$2" "$3" "$4"
  shift 4
  number=$((number - 4))
done
free=$(df -P -k -- "$room" | { read -r line; read -r a b c free rest; echo "$free"; })
if [ "$needed" -gt "$free" ]; then
  rm -rf -- "$room" "$link"
  echo "scratch: $needed KiB are needed in $place on $(uname -n), and $free KiB are free" >&2
  exit 1
fi
while [ "$#" -gt 0 ]; do
  mkdir -p -- "$link/$2"
  if [ -e "$3" ]; then cp -R -H -p -- "$3" "$link/$2/$4"; elif [ "$1" = in ]; then echo "$3 is not there" >&2; exit 1; fi
  shift 4
done
' mlcube /tmp/mlcube-scratch-20260102T030405-77-1 in 0 /cube/workspace/data data out 1 /cube/workspace/model model out 2 /cube/workspace/log.txt log.txt
}
mlc_text_1() { mlc_text='$ sh -c '"'"'set -eu
umask 077
place=/local/"${USER:?scratch: it is not set on the node}"'"'"'"'"'"'"'"'"'/it'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'"'s mine'"'"'"'"'"'"'"'"'
link=$1
shift
if [ ! -d "$place" ] || [ ! -w "$place" ]; then
  echo "scratch: $place is no directory that can be written to on $(uname -n)" >&2
  exit 1
fi
room=$place/mlcube-staged-${link##*/mlcube-scratch-}
rm -rf -- "$room" "$link"
mkdir -- "$room"
ln -s -- "$room" "$link"
needed=0
number=$#
while [ "$number" -gt 0 ]; do
  if [ -e "$3" ]; then
    size=$(du -s -k -H -- "$3" | { read -r size rest; echo "$size"; })
    needed=$((needed + size))
  fi
  set -- "$@" "$1" "$2" "$3" "$4"
  shift 4
  number=$((number - 4))
done
free=$(df -P -k -- "$room" | { read -r line; read -r a b c free rest; echo "$free"; })
if [ "$needed" -gt "$free" ]; then
  rm -rf -- "$room" "$link"
  echo "scratch: $needed KiB are needed in $place on $(uname -n), and $free KiB are free" >&2
  exit 1
fi
while [ "$#" -gt 0 ]; do
  mkdir -p -- "$link/$2"
  if [ -e "$3" ]; then cp -R -H -p -- "$3" "$link/$2/$4"; elif [ "$1" = in ]; then echo "$3 is not there" >&2; exit 1; fi
  shift 4
done
'"'"' mlcube /tmp/mlcube-scratch-20260102T030405-77-1 in 0 /cube/workspace/data data out 1 /cube/workspace/model model out 2 /cube/workspace/log.txt log.txt'; }
mlc_set_1() { mlc_new_step; mlc_title='copy inputs to the node' mlc_step=1 mlc_fallback='-Pslurm.scratch=false leaves the files where they are; -Pslurm.scratch=DIRECTORY names another place' mlc_command=mlc_c1; }
mlc_c2() {
  mlc_become mkdir mkdir -p -- /tmp/mlcube-scratch-20260102T030405-77-1/1/model /tmp/mlcube-scratch-20260102T030405-77-1/2
}
mlc_text_2() { mlc_text='$ mkdir -p -- /tmp/mlcube-scratch-20260102T030405-77-1/1/model /tmp/mlcube-scratch-20260102T030405-77-1/2'; }
mlc_set_2() { mlc_new_step; mlc_title='make the output directories' mlc_step=2 mlc_command=mlc_c2; }
mlc_c3() {
  mlc_enter /cube /usr/bin/python3
  unset PYTHONHOME
  unset PYTHONPATH
  unset VIRTUAL_ENV
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  mlc_become /usr/bin/python3 /usr/bin/python3 /cube/mnist.py train --data=/tmp/mlcube-scratch-20260102T030405-77-1/0/data --model=/tmp/mlcube-scratch-20260102T030405-77-1/1/model --start=/tmp/mlcube-scratch-20260102T030405-77-1/1/model/start.bin --log=/tmp/mlcube-scratch-20260102T030405-77-1/2/log.txt
}
mlc_text_3() { mlc_text='$ cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train --data=/tmp/mlcube-scratch-20260102T030405-77-1/0/data --model=/tmp/mlcube-scratch-20260102T030405-77-1/1/model --start=/tmp/mlcube-scratch-20260102T030405-77-1/1/model/start.bin --log=/tmp/mlcube-scratch-20260102T030405-77-1/2/log.txt'; }
mlc_c4() {
  mlc_become sh sh -c 'set -eu
link=$1
shift
[ ! -e "$link/brought" ] || exit 0
trap '"'"'[ -e "$link/brought" ] || echo "what the task wrote is still in $(readlink "$link") on $(uname -n)" >&2'"'"' EXIT
while [ "$#" -gt 0 ]; do
  fresh=$2.mlcube-partial old=$2.mlcube-old
  if [ -e "$link/$1" ] || [ -L "$link/$1" ]; then
    rm -rf -- "$fresh"
    mkdir -p -- "${2%/*}/"
    cp -R -P -p -- "$link/$1" "$fresh"
    if [ -d "$2" ] && [ ! -L "$2" ]; then
      rm -rf -- "$old"
      mv -- "$2" "$old"
      mv -- "$fresh" "$2" || { mv -- "$old" "$2"; exit 1; }
      rm -rf -- "$old"
    else
      if [ -L "$2" ]; then target=$(readlink -f -- "$2"); else target=$2; fi
      mv -f -- "$fresh" "$target"
    fi
  fi
  shift 2
done
: >"$link/brought"
' mlcube /tmp/mlcube-scratch-20260102T030405-77-1 1/model /cube/workspace/model 2/log.txt /cube/workspace/log.txt
}
mlc_text_4() { mlc_text='$ sh -c '"'"'set -eu
link=$1
shift
[ ! -e "$link/brought" ] || exit 0
trap '"'"'"'"'"'"'"'"'[ -e "$link/brought" ] || echo "what the task wrote is still in $(readlink "$link") on $(uname -n)" >&2'"'"'"'"'"'"'"'"' EXIT
while [ "$#" -gt 0 ]; do
  fresh=$2.mlcube-partial old=$2.mlcube-old
  if [ -e "$link/$1" ] || [ -L "$link/$1" ]; then
    rm -rf -- "$fresh"
    mkdir -p -- "${2%/*}/"
    cp -R -P -p -- "$link/$1" "$fresh"
    if [ -d "$2" ] && [ ! -L "$2" ]; then
      rm -rf -- "$old"
      mv -- "$2" "$old"
      mv -- "$fresh" "$2" || { mv -- "$old" "$2"; exit 1; }
      rm -rf -- "$old"
    else
      if [ -L "$2" ]; then target=$(readlink -f -- "$2"); else target=$2; fi
      mv -f -- "$fresh" "$target"
    fi
  fi
  shift 2
done
: >"$link/brought"
'"'"' mlcube /tmp/mlcube-scratch-20260102T030405-77-1 1/model /cube/workspace/model 2/log.txt /cube/workspace/log.txt'; }
mlc_c5() {
  mlc_become sh sh -c 'room=$(readlink -- "$1") || exit 0
[ -e "$room/brought" ] || exit 1  # the only copy of what the task wrote
case $room in */mlcube-staged-*) chmod -R u+rwX -- "$room" 2>/dev/null; rm -rf -- "$room" "$1";; esac
' mlcube /tmp/mlcube-scratch-20260102T030405-77-1
}
mlc_text_5() { mlc_text='$ sh -c '"'"'room=$(readlink -- "$1") || exit 0
[ -e "$room/brought" ] || exit 1  # the only copy of what the task wrote
case $room in */mlcube-staged-*) chmod -R u+rwX -- "$room" 2>/dev/null; rm -rf -- "$room" "$1";; esac
'"'"' mlcube /tmp/mlcube-scratch-20260102T030405-77-1'; }
mlc_set_3() { mlc_new_step; mlc_title='run task train' mlc_step=3 mlc_command=mlc_c3 mlc_then=mlc_c4 mlc_after='mlc_c4 mlc_c5' mlc_payload=1; }
mlc_everything() {
  mlc_begin_task 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1 train 10 10 ''
  mlc_set_1 && mlc_carry_out && mlc_set_2 && mlc_carry_out && mlc_set_3 && mlc_carry_out
  mlc_end_task || return
  :
}
mlc_go "$@"
exit "${mlc_exit:-0}"  # what the next job waits for
