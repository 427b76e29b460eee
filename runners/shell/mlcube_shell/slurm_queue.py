"""What Slurm is asked about jobs of ours, and how they are ended: shell functions for supervision.requests, and a script. Pure.

The answer is text in sections, which slurm_states.py reads. Each line of a section's content begins with a blank:

    == squeue 0 1700000000    its exit code, and when it was asked (seconds since 1970)
     12_3|RUNNING|None|node1|1699999000
    == scontrol 12_3 0        only of jobs that Slurm does not have under way, and that have told no end themselves
    == sacct 12_3 1           only where scontrol knew nothing
    == log 12_3               the end of the job's slurm.log
    == end

One call of squeue is for all jobs of the user, and its answer for every mlcube on that machine: it is kept in a file.
"""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import quote
from mlcube_cli.place import answer_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUEUE = r"""
# Slurm's commands, without what the user's environment makes of them.
mlc_slurm() {
  (
    unset SQUEUE_ACCOUNT SQUEUE_ALL SQUEUE_ARRAY SQUEUE_FEDERATION SQUEUE_FORMAT SQUEUE_FORMAT2 SQUEUE_LICENSES SQUEUE_LOCAL \
      SQUEUE_NAMES SQUEUE_PARTITION SQUEUE_PRIORITY SQUEUE_QOS SQUEUE_SIBLING SQUEUE_SORT SQUEUE_STATES SQUEUE_USERS \
      SCONTROL_ALL SCONTROL_FEDERATION SCONTROL_LOCAL SCONTROL_SIBLING
    SLURM_TIME_FORMAT=%s
    export SLURM_TIME_FORMAT
    exec "$@"
  )
}

# Where the answer for all of mlcube on this machine is kept: mlc_store; empty where there is no place for it.
mlc_find_store() {
  mlc_store=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
  case $mlc_store in /*) ;; *) mlc_store=''; return;; esac
  mlc_store=$mlc_store/mlcube
  (umask 077; mkdir -p -- "$mlc_store") 2>/dev/null
  mlc_line=$(printf %s "$mlc_host ${SLURM_CONF-} ${SLURM_CLUSTERS-}" | cksum)
  if [ -w "$mlc_store" ] && [ -O "$mlc_store" ] 2>/dev/null; then mlc_store=$mlc_store/queue.$((${mlc_line%% *}))
  else mlc_store=''
  fi
}

mlc_read_kept() {  # FILE AGE: what it holds, when that was said at most so many seconds ago: mlc_asked, mlc_report
  mlc_asked=''
  [ -n "$mlc_store" ] && [ -f "$1" ] && [ -O "$1" ] && read -r mlc_asked mlc_line <"$1"
  case $mlc_asked in ''|*[!0-9]*) return 1;; esac
  mlc_clock_now=$(date +%s)
  [ $((mlc_clock_now - mlc_asked)) -lt "$2" ] && [ "$mlc_asked" -le "$mlc_clock_now" ] || return 1
  mlc_report=$(sed 1d <"$1")
}

mlc_keep() {  # FILE
  (umask 077; printf '%s\n' "$mlc_asked" "$mlc_report" >"$1.$$" && mv -f -- "$1.$$" "$1") 2>/dev/null
}

# A controller that is known to be away is not asked: squeue would try for 9 to 18 seconds [tried].
mlc_ask_controller() {
  mlc_asked=$(date +%s) mlc_report_code=1
  mlc_report=$(mlc_slurm scontrol ping 2>/dev/null)
  case $mlc_report in
    *' is UP'*) ;;
    *' is DOWN'*) return;;
  esac
  mlc_report=$(mlc_slurm squeue --user="$(id -u)" --states=all --array --noheader --format='%i|%T|%r|%N|%S' 2>&1)
  mlc_report_code=$?
}

# MAXAGE: all jobs of this user, asked at most so many seconds ago: mlc_report, mlc_report_code, mlc_asked; mlc_is_fresh
# when that was now. Whoever asks keeps the others waiting for his answer; that there was none is kept, where that took long.
mlc_get_queue() {
  mlc_report_code=0 mlc_is_fresh=''
  [ "$1" -gt 0 ] && mlc_read_kept "$mlc_store" "$1" && return
  if mlc_read_kept "$mlc_store.silent" 30; then mlc_report_code=1 mlc_is_fresh=1; return; fi
  mlc_tries=0 mlc_claimed=''
  while [ -n "$mlc_store" ]; do
    if mkdir -- "$mlc_store.asking" 2>/dev/null; then mlc_claimed=1; break; fi
    mlc_tries=$((mlc_tries + 1))
    [ "$mlc_tries" -lt 100 ] || break
    mlc_sleep 0.1
    [ "$1" -gt 0 ] && mlc_read_kept "$mlc_store" "$1" && return
  done
  mlc_ask_controller
  mlc_is_fresh=1
  if [ -z "$mlc_store" ]; then :
  elif [ "$mlc_report_code" -eq 0 ]; then mlc_keep "$mlc_store"
  elif [ $(($(date +%s) - mlc_asked)) -ge 3 ]; then mlc_asked=$(date +%s); mlc_keep "$mlc_store.silent"
  fi
  # one that was never given back is nobody's after ten seconds
  [ -z "$mlc_claimed" ] && [ "$mlc_tries" -lt 100 ] || rmdir -- "$mlc_store.asking" 2>/dev/null
}

mlc_queue_state() {  # JOB: its state in mlc_report: mlc_state; empty: it is not there
  mlc_state=''
  case $mlc_newline$mlc_report in
    *"$mlc_newline$1|"*) mlc_state=${mlc_report#*"$mlc_newline$1|"}
      case $mlc_report in "$1|"*) mlc_state=${mlc_report#"$1|"};; esac
      mlc_state=${mlc_state%%|*};;
  esac
}

mlc_is_under_way() {
  case $1 in
    PENDING|CONFIGURING|RUNNING|COMPLETING|SUSPENDED|STOPPED|RESIZING|SIGNALING|STAGE_OUT|REQUEUED|REQUEUE_*|SPECIAL_EXIT|RESV_DEL_HOLD)
      return 0;;
  esac
  return 1
}

# DIRECTORY: has the run there told an end that stands, whatever Slurm says? A run that was ended, or killed, may have been so
# by Slurm, and may be started again.
mlc_has_ended() {
  mlc_read_state "$1/state"
  mlc_is_over "$mlc_status" || return 1
  case $mlc_status in
    cancelled|lost) return 1;;
    failed) case $mlc_code in 12[89]|1[3-9]?|2??) return 1;; esac;;
  esac
}

# DIRECTORY JOB: an answer that was kept says nothing of a job that began after it, nor why one ended.
mlc_needs_news() {
  [ -n "$2" ] || return 0
  mlc_queue_state "$2"
  mlc_read_state "$1/state"
  case $mlc_status/$mlc_state in
    running/PENDING|running/CONFIGURING|running/REQUEUE*) mlc_needed=1; return;;
  esac
  if mlc_is_under_way "$mlc_state" && ! mlc_is_over "$mlc_status"; then return; fi
  mlc_has_ended "$1" || mlc_needed=1
}

mlc_tell() { printf '== %s\n' "$1"; sed 's/^/ /'; }

# JOB: mlc_said, mlc_code. Of an array that has ended before any member began Slurm keeps one entry for all, with no member's
# number, and says of each that it is not found [tried].
mlc_show_job() {
  case $1 in
    *_*)
      [ "${mlc_array-}" = "${1%%_*}" ] || mlc_array_said=$(mlc_slurm scontrol --oneliner show job "${1%%_*}" 2>/dev/null)
      mlc_array=${1%%_*} mlc_said=$mlc_array_said mlc_code=0
      case $mlc_said in "JobId=$mlc_array ArrayJobId=$mlc_array ArrayTaskId=4294967294 "*) return;; esac;;
  esac
  mlc_said=$(mlc_slurm scontrol --oneliner show job "$1" 2>&1)
  mlc_code=$?
}

# DIRECTORY JOB: more of one that is not under way.
mlc_tell_more() {
  [ -n "$2" ] || return 0
  mlc_queue_state "$2"
  mlc_is_under_way "$mlc_state" && return
  mlc_has_ended "$1" && return
  # a file system that remembers what was there looks again where something was written
  { printf %s "" >"$1/.look.$$" && rm -f -- "$1/.look.$$"; } 2>/dev/null
  mlc_has_ended "$1" && return
  mlc_show_job "$2"
  printf '%s\n' "$mlc_said" | mlc_tell "scontrol $2 $mlc_code"
  case $mlc_code$mlc_said in
    0?*) ;;
    *) mlc_said=$(mlc_slurm sacct --jobs="$2" --allocations --noheader --parsable2 --format=State,ExitCode,NodeList 2>&1)
      mlc_code=$?
      printf '%s\n' "$mlc_said" | mlc_tell "sacct $2 $mlc_code";;
  esac
  [ ! -r "$1/slurm.log" ] || tail -c 8192 -- "$1/slurm.log" | tail -n 40 | mlc_tell "log $2"
}

mlc_ask_queue() {  # MAXAGE: the report
  mlc_find_store
  mlc_get_queue "$1"
  mlc_needed=''
  if [ -z "$mlc_is_fresh" ]; then
    mlc_each_job mlc_needs_news
    [ -z "$mlc_needed" ] || mlc_get_queue 0
  fi
  printf '%s\n' "$mlc_report" | if [ "$mlc_report_code" -eq 0 ]; then grep -E "^($mlc_bases)[_|]"; else cat; fi |
    mlc_tell "squeue $mlc_report_code $mlc_asked"
  [ "$mlc_report_code" -ne 0 ] || mlc_each_job mlc_tell_more
  echo '== end'
}
"""

_CANCEL = r"""
unset SCANCEL_ACCOUNT SCANCEL_BATCH SCANCEL_CRON SCANCEL_FULL SCANCEL_HURRY SCANCEL_INTERACTIVE SCANCEL_NAME SCANCEL_PARTITION \
  SCANCEL_QOS SCANCEL_STATE SCANCEL_USER SCANCEL_VERBOSE SCANCEL_WCKEY
# what is kept of the queue holds no more
rm -f -- "${XDG_CACHE_HOME:-${HOME-}/.cache}"/mlcube/queue.[0-9]* 2>/dev/null
mlc_scancel() {  # says nothing of jobs that have ended; what else is wrong, on stderr
  mlc_said=$(scancel "$@" 2>&1) && return
  mlc_said=$(printf '%s\n' "$mlc_said" | grep -v -e 'Invalid job id specified' -e 'already completing or completed')
  [ -z "$mlc_said" ] || { printf '%s\n' "$mlc_said" >&2; exit 1; }
}
# DIRECTORY JOB: is it one whose supervisor does not listen yet? Then it is among mlc_young.
mlc_is_young() {
  mlc_status=''
  { read -r mlc_status mlc_line <"$1/state"; } 2>/dev/null
  case $mlc_status in ''|queued) mlc_young="$mlc_young${mlc_young:+,}$2";; esac
}
# A signal to a job that is just starting is lost: until the jobs that run listen, some seconds at most.
mlc_await_ears() {
  for mlc_try in 1 2 3 4 5 6 7 8 9 10 11 12; do
    mlc_young=''
    mlc_each_job mlc_is_young
    [ -n "$mlc_young" ] || return 0
    mlc_said=$(squeue --noheader --states=RUNNING,CONFIGURING --jobs="$mlc_young" --format=%i 2>/dev/null)
    [ -n "$mlc_said" ] || return 0
    sleep 0.5 2>/dev/null || sleep 1
  done
}
"""


def queue_functions(jobs: Sequence[tuple[str, str]]) -> str:
    """Shell text for `follow` and `states` of supervision.requests: `mlc_ask_queue MAXAGE` prints a report (see above).

    `jobs`: the directory and the id of each; what has no id yet is left out.
    """
    return "\n".join((_QUEUE, f"mlc_bases='{'|'.join(_bases(jobs)) or 'none'}'", *_each_job(jobs), ""))


def _bases(jobs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The jobs' ids, of the members of an array the array's."""
    return tuple(dict.fromkeys(job.partition("_")[0] for _, job in jobs if job))


def _each_job(jobs: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    return ("mlc_each_job() {", *(f'  "$1" {quote(directory)} {quote(job)}' for directory, job in jobs if job), "  :", "}")


def cancel(jobs: Sequence[tuple[str, str]], hard: bool, nonce: str) -> str:
    """End these jobs: those that wait are taken from the queue; the supervisor of one that runs gets TERM, and ends its task
    within the grace period. `hard`: at once. `jobs`: the directory and the id of each; an array is ended as a whole.

    Answers `sent`. Without an answer Slurm could not be asked, and says on stderr why.
    """
    words = " ".join(quote(job) for job in _bases(jobs))
    lines = [f"printf '%s\\n' '{answer_line(nonce)}'", _CANCEL, *_each_job(jobs)]
    if words:
        ask = f"mlc_scancel --batch --signal=TERM --state=RUNNING {words}"
        lines += [f"mlc_scancel --state=PENDING {words}", "mlc_await_ears", ask]
        # a second TERM skips the grace period; the rest is Slurm's
        lines += ["sleep 1", ask, "sleep 1", f"mlc_scancel {words}"] if hard else [f"mlc_scancel --state=SUSPENDED {words}"]
    return "\n".join((*lines, "echo sent", ""))
