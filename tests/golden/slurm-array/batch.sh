#!/bin/sh
#SBATCH --job-name=mnist-train
#SBATCH --time=00:10:00
#SBATCH --signal=B:XCPU@60
#SBATCH --export=NONE
#SBATCH --array=1-3,7%4
#SBATCH --output="/cube/my runs/20260102T030405-77/%a/slurm.log"
#SBATCH --open-mode=append

# mlcube: task 'train', 4 times, each as its own directory says
# by hand: sbatch '/cube/my runs/20260102T030405-77/program'
mlc_member=$((SLURM_ARRAY_TASK_ID + ${1:-0}))
if [ "${1:-0}" -gt 0 ]; then
  ln -s "../slurm-${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID.log" '/cube/my runs/20260102T030405-77'/"$mlc_member"/slurm.log 2>/dev/null
fi
MLCUBE_JOB_DIRECTORY='/cube/my runs/20260102T030405-77'/$mlc_member; export MLCUBE_JOB_DIRECTORY
set -- "$(umask)"
. '/cube/my runs/20260102T030405-77'/"$mlc_member"/program
exit "${mlc_exit:-0}"  # what the next job waits for
