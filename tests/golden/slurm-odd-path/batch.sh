#!/bin/sh
#SBATCH --job-name=mnist-train
#SBATCH --export=NONE
#SBATCH --output=/dev/null
#SBATCH --open-mode=append

# mlcube: task 'train' on local, in '/cube/back\slash and newline/1'
# by hand: mkdir -p '/cube/back\slash and newline/1', then sbatch this file
# run task train:
#   cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train
[ $# -gt 0 ] || set -- "$(umask)"
MLCUBE_JOB_DIRECTORY='/cube/back\slash and
newline/1'; export MLCUBE_JOB_DIRECTORY
exec >>'/cube/back\slash and
newline/1/slurm.log' 2>&1  # no directive can name it
(umask 077; mkdir -p -- '/cube/back\slash and
newline/1/20260102T030405-77-1')
# mlcube: supervises one run, until its end
# (here stands what every supervised run has in common)

mlc_directory='/cube/back\slash and
newline/1' mlc_locks='' mlc_token=96548382c865
mlc_each_secret() { :; }
mlc_each_task() { "$1" 20260102T030405-77-1 '/cube/back\slash and
newline/1/20260102T030405-77-1'; :; }
mlc_c1() {
  mlc_enter /cube /usr/bin/python3
  unset PYTHONHOME
  unset PYTHONPATH
  unset VIRTUAL_ENV
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  mlc_become /usr/bin/python3 /usr/bin/python3 /cube/mnist.py train
}
mlc_text_1() { mlc_text='$ cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 /usr/bin/python3 /cube/mnist.py train'; }
mlc_set_1() { mlc_new_step; mlc_title='run task train' mlc_step=1 mlc_command=mlc_c1 mlc_payload=1; }
mlc_everything() {
  mlc_begin_task 20260102T030405-77-1 '/cube/back\slash and
newline/1/20260102T030405-77-1' train 10 10 ''
  mlc_set_1 && mlc_carry_out
  mlc_end_task || return
  :
}
mlc_go "$@"
exit "${mlc_exit:-0}"  # what the next job waits for
