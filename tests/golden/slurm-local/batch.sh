#!/bin/sh
#SBATCH --job-name=mnist-train
#SBATCH --export=NONE
#SBATCH --output=/cube/workspace/.mlcube/runs/20260102T030405-77/1/slurm.log
#SBATCH --open-mode=append

# mlcube: task 'train' on local, in /cube/workspace/.mlcube/runs/20260102T030405-77/1
# by hand: mkdir -p /cube/workspace/.mlcube/runs/20260102T030405-77/1, then sbatch this file
# make the output directories:
#   mkdir -p -- /cube/workspace/model
# run task train:
#   cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train --data=/cube/workspace/data --model=/cube/workspace/model
[ $# -gt 0 ] || set -- "$(umask)"
MLCUBE_JOB_DIRECTORY=/cube/workspace/.mlcube/runs/20260102T030405-77/1; export MLCUBE_JOB_DIRECTORY
(umask 077; mkdir -p -- /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1)
# mlcube: supervises one run, until its end
# (here stands what every supervised run has in common)

mlc_directory=/cube/workspace/.mlcube/runs/20260102T030405-77/1 mlc_locks='' mlc_token=9a139fa6f20d
mlc_each_secret() { :; }
mlc_each_task() { "$1" 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1; :; }
mlc_c1() {
  mlc_become mkdir mkdir -p -- /cube/workspace/model
}
mlc_text_1() { mlc_text='$ mkdir -p -- /cube/workspace/model'; }
mlc_set_1() { mlc_new_step; mlc_title='make the output directories' mlc_step=1 mlc_command=mlc_c1; }
mlc_c2() {
  mlc_enter /cube /usr/bin/python3
  unset PYTHONHOME
  unset PYTHONPATH
  unset VIRTUAL_ENV
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  mlc_become /usr/bin/python3 /usr/bin/python3 /cube/mnist.py train --data=/cube/workspace/data --model=/cube/workspace/model
}
mlc_text_2() { mlc_text='$ cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train --data=/cube/workspace/data --model=/cube/workspace/model'; }
mlc_set_2() { mlc_new_step; mlc_title='run task train' mlc_step=2 mlc_command=mlc_c2 mlc_payload=1; }
mlc_everything() {
  mlc_begin_task 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1 train 10 10 ''
  mlc_set_1 && mlc_carry_out && mlc_set_2 && mlc_carry_out
  mlc_end_task || return
  :
}
mlc_go "$@"
exit "${mlc_exit:-0}"  # what the next job waits for
