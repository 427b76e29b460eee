#!/bin/sh
#SBATCH --job-name=mnist-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --time=00:10:00
#SBATCH --cpus-per-task=4
#SBATCH --export=NONE
#SBATCH --output=/cube/workspace/.mlcube/runs/20260102T030405-77/1/slurm.log
#SBATCH --open-mode=append

# mlcube: task 'train' on local, in /cube/workspace/.mlcube/runs/20260102T030405-77/1
# by hand: mkdir -p /cube/workspace/.mlcube/runs/20260102T030405-77/1, then sbatch this file
# note: the grace period is 3 s here: Slurm kills a job 5 s after it has asked it to end (KillWait), and 2 s of these are for tidying up
# run task train:
#   cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 sh -c ... mlcube --export=ALL --kill-on-bad-exit=1 --job-name=20260102T030405-77-1 --cpus-per-task=4 sh -c ... mlcube /usr/bin/python3 /cube/mnist.py train
[ $# -gt 0 ] || set -- "$(umask)"
MLCUBE_JOB_DIRECTORY=/cube/workspace/.mlcube/runs/20260102T030405-77/1; export MLCUBE_JOB_DIRECTORY
(umask 077; mkdir -p -- /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1)
# mlcube: supervises one run, until its end
# (here stands what every supervised run has in common)

mlc_directory=/cube/workspace/.mlcube/runs/20260102T030405-77/1 mlc_locks='' mlc_token=9a139fa6f20d
mlc_each_secret() { :; }
mlc_each_task() { "$1" 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1; :; }
mlc_c1() {
  mlc_enter /cube sh
  unset PYTHONHOME
  unset PYTHONPATH
  unset VIRTUAL_ENV
  PYTHONUNBUFFERED=1; export PYTHONUNBUFFERED
  mlc_become sh sh -c 'if [ -z "${MASTER_ADDR:-}" ]; then
  MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  if command -v getent >/dev/null 2>&1 && ! getent hosts "$MASTER_ADDR" >/dev/null; then
    MASTER_ADDR=$(scontrol show node "$MASTER_ADDR" | sed -n '"'"'s/.*NodeAddr=\([^ ]*\).*/\1/p'"'"')
  fi
fi
MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} % 10000 + ${SLURM_ARRAY_TASK_ID:-0} % 2000))}
export MASTER_ADDR MASTER_PORT
failed=${MLCUBE_JOB_DIRECTORY:+$MLCUBE_JOB_DIRECTORY/failed-rank}
[ -z "$failed" ] || rm -f -- "$failed"
srun "$@"
code=$?
if [ "$code" -ne 0 ] && [ -n "$failed" ] && read -r rank first size 2>/dev/null <"$failed"; then
  [ "$size" = 1 ] || echo "rank $rank was the first that failed, with exit code $first" >&2
  code=$first
fi
exit "$code"
' mlcube --export=ALL --kill-on-bad-exit=1 --job-name=20260102T030405-77-1 --cpus-per-task=4 sh -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS NODE_RANK=$SLURM_NODEID
rest=$SLURM_STEP_TASKS_PER_NODE seen=0  # such as 2(x3),1
while [ "$seen" -le "$NODE_RANK" ]; do
  one=${rest%%,*} rest=${rest#*,} times=1
  case $one in *"(x"*) times=${one#*x} times=${times%")"};; esac
  LOCAL_WORLD_SIZE=${one%%"("*} seen=$((seen + times))
done
export RANK LOCAL_RANK WORLD_SIZE NODE_RANK LOCAL_WORLD_SIZE
trap : HUP INT QUIT TERM USR1 USR2 XCPU
"$@"
code=$?
[ "$code" -eq 0 ] || [ -z "${MLCUBE_JOB_DIRECTORY:-}" ] ||
  (set -C; echo "$RANK $code $WORLD_SIZE" >"$MLCUBE_JOB_DIRECTORY/failed-rank") 2>/dev/null
exit "$code"
' mlcube /usr/bin/python3 /cube/mnist.py train
}
mlc_text_1() { mlc_text='$ cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 sh -c '"'"'if [ -z "${MASTER_ADDR:-}" ]; then
  MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  if command -v getent >/dev/null 2>&1 && ! getent hosts "$MASTER_ADDR" >/dev/null; then
    MASTER_ADDR=$(scontrol show node "$MASTER_ADDR" | sed -n '"'"'"'"'"'"'"'"'s/.*NodeAddr=\([^ ]*\).*/\1/p'"'"'"'"'"'"'"'"')
  fi
fi
MASTER_PORT=${MASTER_PORT:-$((20000 + ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID} % 10000 + ${SLURM_ARRAY_TASK_ID:-0} % 2000))}
export MASTER_ADDR MASTER_PORT
failed=${MLCUBE_JOB_DIRECTORY:+$MLCUBE_JOB_DIRECTORY/failed-rank}
[ -z "$failed" ] || rm -f -- "$failed"
srun "$@"
code=$?
if [ "$code" -ne 0 ] && [ -n "$failed" ] && read -r rank first size 2>/dev/null <"$failed"; then
  [ "$size" = 1 ] || echo "rank $rank was the first that failed, with exit code $first" >&2
  code=$first
fi
exit "$code"
'"'"' mlcube --export=ALL --kill-on-bad-exit=1 --job-name=20260102T030405-77-1 --cpus-per-task=4 sh -c '"'"'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS NODE_RANK=$SLURM_NODEID
rest=$SLURM_STEP_TASKS_PER_NODE seen=0  # such as 2(x3),1
while [ "$seen" -le "$NODE_RANK" ]; do
  one=${rest%%,*} rest=${rest#*,} times=1
  case $one in *"(x"*) times=${one#*x} times=${times%")"};; esac
  LOCAL_WORLD_SIZE=${one%%"("*} seen=$((seen + times))
done
export RANK LOCAL_RANK WORLD_SIZE NODE_RANK LOCAL_WORLD_SIZE
trap : HUP INT QUIT TERM USR1 USR2 XCPU
"$@"
code=$?
[ "$code" -eq 0 ] || [ -z "${MLCUBE_JOB_DIRECTORY:-}" ] ||
  (set -C; echo "$RANK $code $WORLD_SIZE" >"$MLCUBE_JOB_DIRECTORY/failed-rank") 2>/dev/null
exit "$code"
'"'"' mlcube /usr/bin/python3 /cube/mnist.py train'; }
mlc_c2() {
  mlc_become sh sh -c 'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'%i %j'"'"' | sed -n "s/ $1 *\$//p")
[ -n "$step" ] || exit 1
scancel --signal=TERM "$step"
while [ "$2" -gt 0 ] && sleep 1; do
  set -- "$1" $(($2 - 1))
  squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format=%j | grep -q -x -F -e "$1" || exit 0
done
scancel --signal=KILL "$step"
' mlcube 20260102T030405-77-1 3
}
mlc_text_2() { mlc_text='$ sh -c '"'"'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'"'"'"'"'"'"'%i %j'"'"'"'"'"'"'"'"' | sed -n "s/ $1 *\$//p")
[ -n "$step" ] || exit 1
scancel --signal=TERM "$step"
while [ "$2" -gt 0 ] && sleep 1; do
  set -- "$1" $(($2 - 1))
  squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format=%j | grep -q -x -F -e "$1" || exit 0
done
scancel --signal=KILL "$step"
'"'"' mlcube 20260102T030405-77-1 3'; }
mlc_c3() {
  mlc_become sh sh -c 'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'%i %j'"'"' | sed -n "s/ $1 *\$//p")
[ -n "$step" ] || exit 1
scancel --signal=KILL "$step"
' mlcube 20260102T030405-77-1 3
}
mlc_text_3() { mlc_text='$ sh -c '"'"'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'"'"'"'"'"'"'%i %j'"'"'"'"'"'"'"'"' | sed -n "s/ $1 *\$//p")
[ -n "$step" ] || exit 1
scancel --signal=KILL "$step"
'"'"' mlcube 20260102T030405-77-1 3'; }
mlc_c4() {
  mlc_become sh sh -c 'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'%i %j'"'"' | sed -n "s/ $1 *\$//p")
[ -z "$step" ] || scancel --signal=KILL "$step"
' mlcube 20260102T030405-77-1 3
}
mlc_text_4() { mlc_text='$ sh -c '"'"'step=$(squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format='"'"'"'"'"'"'"'"'%i %j'"'"'"'"'"'"'"'"' | sed -n "s/ $1 *\$//p")
[ -z "$step" ] || scancel --signal=KILL "$step"
'"'"' mlcube 20260102T030405-77-1 3'; }
mlc_set_1() { mlc_new_step; mlc_title='run task train' mlc_step=1 mlc_command=mlc_c1 mlc_payload=1 mlc_ask=mlc_c2 mlc_kill=mlc_c3 mlc_remove=mlc_c4; }
mlc_everything() {
  mlc_begin_task 20260102T030405-77-1 /cube/workspace/.mlcube/runs/20260102T030405-77/1/20260102T030405-77-1 train 3 3 ''
  mlc_set_1 && mlc_carry_out
  mlc_end_task || return
  :
}
mlc_go "$@"
exit "${mlc_exit:-0}"  # what the next job waits for
