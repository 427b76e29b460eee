"""WHEN: another runner's plans as jobs of Slurm, which has them carried out when and where there is room. Pure.

The scheduler is the engine: a job is a supervised command directory whose program sbatch starts. This module is the one of
the table in runner.py; each of its functions lives in a module of its own.
"""

from __future__ import annotations

from mlcube_shell.slurm_batch import array_file, batch_file
from mlcube_shell.slurm_checks import check, largest_array
from mlcube_shell.slurm_jobs import on_login, on_node
from mlcube_shell.slurm_probe import look_at_node
from mlcube_shell.slurm_queue import cancel, queue_functions
from mlcube_shell.slurm_ranks import for_allocation, for_batch, is_allocated
from mlcube_shell.slurm_requests import last_signal
from mlcube_shell.slurm_scratch import scratched, staged
from mlcube_shell.slurm_states import judge
from mlcube_shell.slurm_submit import submit

__all__ = ("array_file", "batch_file", "cancel", "check", "for_allocation", "for_batch", "is_allocated", "judge",
           "largest_array", "last_signal", "look_at_node", "on_login", "on_node", "queue_functions", "scratched", "staged",
           "submit")
