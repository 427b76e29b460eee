"""The supervisor's signals, its waiting for a child, and a child with everything it started, as functions of a POSIX shell."""

# --- signals, time, waiting ------------------------------------------------------------------------------------------

WAITING = r"""
# Seconds since 1970: mlc_time. The clock is asked once; since then the time since the machine's start is counted, which
# needs no process, and fractions also where `date` has none.
mlc_now() {
  if [ -n "$mlc_clock" ]; then
    mlc_count_up
    mlc_time=$((mlc_clock + mlc_up))
  else
    mlc_time=$(date +%s.%N)
    case $mlc_time in
      *[!0-9.]*) mlc_time=$(date +%s)00;;
      *.?????????) mlc_time=${mlc_time%???????} mlc_time=${mlc_time%.*}${mlc_time#*.};;
      *) mlc_time=${mlc_time%.*}00;;
    esac
    mlc_count_up
    [ -z "$mlc_up" ] || mlc_clock=$((mlc_time - mlc_up))
  fi
  mlc_line=${mlc_time%??}
  mlc_time=$mlc_line.${mlc_time#"$mlc_line"}
}

mlc_count_up() {  # hundredths of a second
  mlc_up=''
  [ -r /proc/uptime ] || return 0
  read -r mlc_up mlc_line </proc/uptime
  case $mlc_up in *.??) mlc_up=$((${mlc_up%.*} * 100 + 1${mlc_up#*.} - 100));; *) mlc_up='';; esac
}

# FILE TEXT: there whole or not at all; in place where the disk is full, which needs no new block.
mlc_put() {
  { printf '%s\n' "$2" >"$1.new" && mv -f -- "$1.new" "$1"; } 2>/dev/null || printf '%s\n' "$2" 1<>"$1"
}

mlc_say() { printf '%s\n' "$1" >>"$mlc_directory/said"; }

mlc_which() {  # NAME: mlc_path, its place on PATH
  mlc_path=''
  case $1 in */*) [ -f "$1" ] && [ -x "$1" ] && mlc_path=$1; return;; esac
  mlc_rest=${PATH-/bin:/usr/bin}:
  while [ -n "$mlc_rest" ]; do
    mlc_path=${mlc_rest%%:*}
    mlc_path=${mlc_path:-.}/$1 mlc_rest=${mlc_rest#*:}
    [ -f "$mlc_path" ] && [ -x "$mlc_path" ] && return
  done
  mlc_path=''
  return 1
}

# A request that comes between two commands would not end the `wait` after them: hence once more, a moment later.
mlc_on_term() {
  mlc_requests=$((mlc_requests + 1)) mlc_signal=${mlc_signal:-15}
  (mlc_sleep 0.2; kill -USR1 $$) 2>/dev/null &
}

# The time that a batch system gives is nearly up. TERM is the end of it; with another signal the task goes on until it ends.
mlc_on_last_call() {
  mlc_now
  mlc_last_call=${mlc_time%.*}
  mlc_is_last_call && mlc_due=1
  (mlc_sleep 0.2; kill -USR1 $$) 2>/dev/null &
}

mlc_is_last_call() { [ -n "$mlc_last_call" ] && [ "$mlc_last_signal" = TERM ]; }

# Once, to the task: its engine's client passes it on.
mlc_pass_last_call() {
  [ -n "$mlc_last_call" ] && [ -z "$mlc_passed" ] && [ "$mlc_last_signal" != TERM ] || return 0
  mlc_passed=1
  if [ -n "$mlc_kill" ] || [ -n "$mlc_passes_on" ]; then mlc_send "$mlc_last_signal" "$mlc_child"; return; fi
  mlc_family "$mlc_child" "$mlc_mark"
  mlc_send "$mlc_last_signal" $mlc_members
}

# Was a request to end the batch system's own, since the time is up? Such a one does not come before the notice has run out.
mlc_is_time_up() {
  mlc_now
  case ${SLURM_JOB_END_TIME-} in
    ''|*[!0-9]*) [ -n "$mlc_last_call" ] && [ $((${mlc_time%.*} - mlc_last_call)) -ge $((mlc_notice - 2)) ];;
    *) [ $((SLURM_JOB_END_TIME - ${mlc_time%.*})) -le 2 ];;
  esac
}

mlc_traps() {
  trap mlc_on_term TERM
  [ -z "$mlc_batch" ] || trap mlc_on_last_call XCPU
  trap : USR1 HUP INT QUIT
  trap 'mlc_due=1' USR2
}

# Take in the requests that `cancel` has put here: a file each, with the signal's number and whether it is to be at once.
mlc_listen() {
  for mlc_file in "$mlc_directory"/cancel.*; do
    [ -e "$mlc_file" ] || continue
    mlc_number=15 mlc_how=''
    read -r mlc_number mlc_how <"$mlc_file"
    rm -f -- "$mlc_file"
    mlc_signal=${mlc_signal:-$mlc_number} mlc_requests=$((mlc_requests + 1))
    [ "$mlc_how" = hard ] && mlc_requests=$((mlc_requests + 1))
  done
}

mlc_may_go_on() { mlc_listen; [ "$mlc_requests" -eq 0 ] && ! mlc_is_last_call; }

# SECONDS (empty: none): mlc_due is set when they are over. The timer is ended by a signal that we do not trap: of one
# that we do, a child that was just forked still has our handler, and would lose it.
mlc_set_timer() {
  mlc_due='' mlc_timer=''
  [ -n "$1" ] || return 0
  (
    mlc_other=${!-}
    trap '[ "${!-}" = "$mlc_other" ] || kill "$!" 2>/dev/null; exit 0' ALRM
    trap - TERM USR1 USR2 HUP INT QUIT
    sleep "$1" 2>/dev/null &
    wait "$!" || { sleep $((${1%%.*} + 1)) & wait "$!"; }
    while mlc_is_running $$ "$mlc_my_start"; do kill -USR2 $$; sleep 1 & wait "$!"; done
  ) &
  mlc_timer=$!
}

mlc_clear_timer() {
  if [ -n "$mlc_timer" ]; then
    kill -ALRM "$mlc_timer" 2>/dev/null
    wait "$mlc_timer" 2>/dev/null
    mlc_timer=''
  fi
  mlc_due=''
}

# PID KNOWN: wait for a child of ours; its exit code is in mlc_code. 1: the time is up, or more requests than KNOWN came.
mlc_await() {
  while :; do
    mlc_listen
    [ -z "$mlc_own" ] || [ "$2" -ne 0 ] || mlc_pass_last_call
    { [ -n "$mlc_due" ] || [ "$mlc_requests" -gt "$2" ]; } && kill -0 "$1" 2>/dev/null && return 1
    wait "$1" 2>/dev/null
    mlc_code=$?
    [ "$mlc_code" -le 128 ] && return 0
    kill -0 "$1" 2>/dev/null && continue
    # either it died of a signal, or a signal of ours came just when it ended
    wait "$1" 2>/dev/null
    mlc_again=$?
    [ "$mlc_again" -eq 127 ] || mlc_code=$mlc_again
    return 0
  done
}
"""

# --- a child and everything it started -------------------------------------------------------------------------------

FAMILY = r"""
# LEADER MARK: who is alive of its session or group, who bears the mark, and their descendants: mlc_members.
mlc_family() {
  mlc_members=' '
  if [ -r /proc/self/stat ]; then mlc_table=$(cat /proc/[0-9]*/stat 2>/dev/null)
  else mlc_table=$(ps -A -o pid= -o ppid= -o pgid= 2>/dev/null)
  fi
  if [ -n "$2" ]; then
    # lines that end with a NUL byte, where grep knows those: it then finds our own file, too
    mlc_table_of_marks=$(
      grep -l -z -x -F -e "MLCUBE_RUN_ID=$2" -e mlcube-mark "$mlc_directory/mark" /proc/[0-9]*/environ 2>/dev/null)
    case $mlc_table_of_marks in
      "$mlc_directory/mark"*) ;;
      *) mlc_table_of_marks=$(grep -l -a -F -e "MLCUBE_RUN_ID=$2" /proc/[0-9]*/environ 2>/dev/null);;
    esac
    for mlc_file in ${mlc_table_of_marks#"$mlc_directory/mark"}; do
      mlc_file=${mlc_file#/proc/}
      mlc_members="$mlc_members${mlc_file%/environ} "
    done
  fi
  mlc_parents='' mlc_living=' ' mlc_partial=''
  mlc_ifs=${IFS-unset}
  set -f
  IFS='
'
  for mlc_line in $mlc_table; do
    mlc_stat=$mlc_partial$mlc_line
    mlc_rest=${mlc_stat##*)}
    IFS=' '
    case $mlc_stat in
      *' ('*') '[A-Z]' '*[0-9]' '*) set -- "$1" "$2" ${mlc_stat%% *} $mlc_rest; mlc_partial='';;
      *[!0-9\ ]*) mlc_partial=$mlc_stat; continue;;  # a name with a newline in it
      *) set -- "$1" "$2" $mlc_stat; set -- "$1" "$2" "$3" S "$4" "$5" "$5";;
    esac
    case $4 in Z|X) continue;; esac
    mlc_living="$mlc_living$3 " mlc_parents="$mlc_parents$3 $5
"
    if [ "$6" = "$1" ] || [ "$7" = "$1" ] || [ "$3" = "$1" ]; then mlc_members="$mlc_members$3 "; fi
  done
  mlc_more=1
  while [ -n "$mlc_more" ]; do
    mlc_more=''
    IFS='
'
    for mlc_line in $mlc_parents; do
      case $mlc_members in *" ${mlc_line%% *} "*) continue;; esac
      case $mlc_members in *" ${mlc_line##* } "*) mlc_members="$mlc_members${mlc_line%% *} " mlc_more=1;; esac
    done
  done
  IFS=' '
  mlc_found=$mlc_members mlc_members=' '
  for mlc_line in $mlc_found; do
    case $mlc_members in *" $mlc_line "*) continue;; esac
    case $mlc_living in *" $mlc_line "*) [ "$mlc_line" = $$ ] || mlc_members="$mlc_members$mlc_line ";; esac
  done
  set +f
  if [ "$mlc_ifs" = unset ]; then unset IFS; else IFS=$mlc_ifs; fi
  [ "$mlc_members" != ' ' ]
}

mlc_send() {  # SIGNAL PID...
  mlc_number=$1
  shift
  for mlc_line in "$@"; do kill "-$mlc_number" "$mlc_line" 2>/dev/null; done
}

# LEADER MARK: TERM to each once; to the leader alone where it passes it on.
mlc_ask_family() {
  if [ -n "$mlc_passes_on" ]; then kill -TERM "$1" 2>/dev/null; return; fi
  mlc_family "$1" "$2"
  mlc_send TERM $mlc_members
}

# LEADER MARK: until nobody is left, 3 seconds at most. All are stopped first, so that none starts another meanwhile.
mlc_kill_family() {
  mlc_round=0
  while mlc_family "$1" "$2"; do
    mlc_stopped=''
    while [ "$mlc_stopped" != "$mlc_members" ]; do
      mlc_stopped=$mlc_members
      mlc_send STOP $mlc_members
      mlc_family "$1" "$2"
    done
    mlc_send KILL $mlc_stopped $mlc_members
    mlc_round=$((mlc_round + 1))
    [ "$mlc_round" -lt 60 ] || return 1
    mlc_sleep 0.03
  done
}
"""
