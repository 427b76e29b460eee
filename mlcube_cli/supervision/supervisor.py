"""The supervisor as functions of a POSIX shell: it does with steps and tasks what process.py and cli/executing.py do.

What the generated part of a program sets before a step: mlc_title, the names of the functions of its commands (mlc_unless,
mlc_before, mlc_command, mlc_otherwise, mlc_then, mlc_after; mlc_ask, mlc_kill, mlc_remove of its Stop; mlc_sign, mlc_codes,
mlc_why of its Sign), mlc_lock_name and mlc_lock_key, mlc_payload, mlc_passes_on, mlc_fallback (its hint).
"""

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

mlc_traps() {
  trap mlc_on_term TERM
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

mlc_may_go_on() { mlc_listen; [ "$mlc_requests" -eq 0 ]; }

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

# --- starting and ending one command ---------------------------------------------------------------------------------

EXECUTING = r"""
mlc_refuse() {  # in the child: why it cannot be started, and its exit code
  printf '%s\n' "$1" >"$mlc_directory/unstarted"
  exit "$2"
}

mlc_enter() { cd -- "$1" 2>/dev/null || mlc_refuse "cannot start $2: its working directory $1 does not exist" 127; }

mlc_last='trap "echo \$? >\"\$0\"" 0; shopt -s execfail 2>/dev/null; exec "$@"; exit'

# Become the command, in a session of its own, with the signals that a background process of a shell lacks. NAME is
# looked for first, since a shell's own message about it would be among what the task prints.
mlc_become() {
  mlc_name=$1
  shift
  case $mlc_name in
    */*) [ -e "$mlc_name" ] || mlc_refuse "cannot start $mlc_name: it does not exist" 127
      { [ -x "$mlc_name" ] && [ ! -d "$mlc_name" ]; } || mlc_refuse "cannot start $mlc_name: it is not executable for you" 126;;
    *) mlc_which "$mlc_name" || mlc_refuse "cannot start $mlc_name: there is no such program on PATH" 127;;
  esac
  umask "$mlc_umask"
  exec ${mlc_setsid:+"$mlc_setsid"} ${mlc_env:+"$mlc_env" --default-signal=INT,QUIT} \
    "$mlc_sh" -c "$mlc_last" "$mlc_directory/unstarted" "$@"
}

# FUNCTION OUT ERR MARK: start a command; its id is in mlc_child.
mlc_begin() {
  (
    trap - TERM USR1 USR2 HUP INT QUIT
    if [ -n "$4" ]; then MLCUBE_RUN_ID=$4; export MLCUBE_RUN_ID; fi
    exec </dev/null >>"$2"
    if [ "$3" = "$2" ]; then exec 2>&1; else exec 2>>"$3"; fi
    "$1"
  ) &
  mlc_child=$!
}

# FUNCTION: run a command of the step to its end: mlc_result (succeeded, failed, environment, timed_out, cancelled),
# mlc_code, mlc_tail; mlc_which_one is the command.
mlc_execute() {
  mlc_which_one=$1 mlc_tail='' mlc_own=''
  mlc_may_go_on || { mlc_result=cancelled; return 1; }
  mlc_mark='' mlc_out=$mlc_directory/prepare.log mlc_err=$mlc_directory/prepare.log mlc_limit=''
  if [ -n "$mlc_payload" ] && { [ "$1" = "$mlc_command" ] || [ "$1" = "$mlc_otherwise" ]; }; then
    mlc_own=1 mlc_out=$mlc_task_directory/stdout.log mlc_err=$mlc_task_directory/stderr.log mlc_limit=$mlc_timeout
    [ -n "$mlc_kill" ] || mlc_mark=$mlc_run_id
  else
    mlc_sizes_of "$mlc_out"
    mlc_from=$((mlc_sizes))
  fi
  mlc_begin "$1" "$mlc_out" "$mlc_err" "$mlc_mark"
  mlc_look_at "$mlc_child"
  printf '%s\n' "$mlc_child $mlc_start $mlc_step ${mlc_mark:--}" >"$mlc_directory/at"
  mlc_set_timer "$mlc_limit"
  if mlc_await "$mlc_child" 0; then mlc_clear_timer; mlc_settle; mlc_result=failed
  else mlc_clear_timer; mlc_result=timed_out; mlc_end
  fi
  [ "$mlc_result" = failed ] && [ "$mlc_code" -eq 0 ] && mlc_result=succeeded
  if [ "$mlc_result" = timed_out ]; then mlc_code=124; [ "$mlc_requests" -eq 0 ] || mlc_result=failed; fi
  case $mlc_code in 126|127) mlc_if_unstarted;; esac
  [ "$mlc_result" = succeeded ] && return
  [ -n "$mlc_tail" ] || [ -n "$mlc_own" ] || mlc_last_lines "$mlc_directory/prepare.log" "$mlc_from"
  return 1
}

mlc_if_unstarted() {
  [ -e "$mlc_directory/unstarted" ] || return
  IFS= read -r mlc_tail <"$mlc_directory/unstarted"
  rm -f -- "$mlc_directory/unstarted"
  case $mlc_tail in 126|127) mlc_tail="cannot start it: the system refused (exit code $mlc_tail)";; esac
  mlc_result=environment
}

# FILE OFFSET: the last 25 lines from there on, of a progress bar its last state, without the secrets: mlc_tail.
mlc_last_lines() {
  mlc_tail=$(tail -c +$(($2 + 1)) -- "$1" | tail -c 65536 | tail -n 25 | tr -d '\000' |
    sed "s/$mlc_return*\$//; s/.*$mlc_return//")
  mlc_each_secret mlc_hide
}

mlc_hide() {  # SECRET: *** instead of it in mlc_tail
  [ "${#1}" -gt 3 ] || return 0
  mlc_rest=$mlc_tail mlc_tail=''
  while :; do
    case $mlc_rest in
      *"$1"*) mlc_tail="$mlc_tail${mlc_rest%%"$1"*}***" mlc_rest=${mlc_rest#*"$1"};;
      *) break;;
    esac
  done
  mlc_tail=$mlc_tail$mlc_rest
}

# After its own end: nothing that a task started outlives it. An engine's client that was killed leaves its container.
mlc_settle() {
  [ -n "$mlc_own" ] || return 0
  if [ -n "$mlc_kill" ]; then
    mlc_kept=$mlc_code
    [ "$mlc_code" -le 128 ] || mlc_take_away 1
    mlc_code=$mlc_kept
  elif mlc_family "$mlc_child" "$mlc_mark"; then
    mlc_kept=$mlc_code mlc_known=$((mlc_requests > 1 ? 1 : mlc_requests))
    mlc_end_family 1
    mlc_code=$mlc_kept
  fi
}

# TERM, the grace period, KILL. One more request skips what is left of the grace period.
mlc_end() {
  mlc_known=$((mlc_requests > 1 ? 1 : mlc_requests))
  mlc_span=$mlc_grace
  if [ -n "$mlc_own" ] && [ -n "$mlc_kill" ]; then
    mlc_end_container
    mlc_span=''
  fi
  mlc_end_family "$mlc_span"
}

mlc_end_family() {  # SECONDS, empty: none
  if [ -n "$1" ] && [ "$1" != 0 ] && [ "$mlc_requests" -le "$mlc_known" ]; then
    mlc_ask_family "$mlc_child" "$mlc_mark"
    mlc_set_timer "$1"
    if mlc_await "$mlc_child" "$mlc_known"; then
      while [ -z "$mlc_due" ] && [ "$mlc_requests" -le "$mlc_known" ] && mlc_family "$mlc_child" "$mlc_mark"; do
        mlc_sleep 0.05
        mlc_listen
      done
    fi
    mlc_clear_timer
  fi
  mlc_kill_family "$mlc_child" "$mlc_mark"
  mlc_set_timer 5
  mlc_await "$mlc_child" 999
  mlc_clear_timer
}

# FUNCTION SECONDS KNOWN [OUT ERR]: a command of ours, not shown; does it succeed within the time?
mlc_succeeds() {
  mlc_kept_child=$mlc_child
  mlc_begin "$1" "${4:-/dev/null}" "${5:-/dev/null}" ''
  mlc_set_timer "$2"
  if mlc_await "$mlc_child" "$3"; then mlc_clear_timer; mlc_good=$mlc_code
  else
    mlc_clear_timer
    mlc_kill_family "$mlc_child" ''
    wait "$mlc_child" 2>/dev/null
    mlc_good=124
  fi
  mlc_child=$mlc_kept_child
  if [ -e "$mlc_directory/unstarted" ]; then rm -f -- "$mlc_directory/unstarted"; fi
  [ "$mlc_good" -eq 0 ]
}

# Through the engine, since signals to its client do not reach what runs in the container.
mlc_end_container() {
  mlc_existed='' mlc_tries=0
  while [ "$mlc_requests" -le "$mlc_known" ]; do
    mlc_succeeds "$mlc_ask" $((mlc_grace_up + 10)) "$mlc_known" && { mlc_existed=1; break; }
    kill -0 "$mlc_child" 2>/dev/null || break
    [ "$mlc_tries" -lt $((mlc_grace_up * 4)) ] || break
    mlc_tries=$((mlc_tries + 1))  # it is still being made
    mlc_sleep 0.2
    mlc_listen
  done
  [ -n "$mlc_existed" ] || { mlc_succeeds "$mlc_kill" 10 999 && mlc_existed=1; }
  if [ -n "$mlc_existed" ]; then
    mlc_set_timer 5
    mlc_await "$mlc_child" 999
    mlc_clear_timer
  fi
  mlc_kill_family "$mlc_child" ''
  if [ -n "$mlc_existed" ]; then mlc_take_away 1; else mlc_take_away 2; fi
}

# WANTED: until it succeeded so often. A container that nobody saw may still be on its way: then once more, a second later.
mlc_take_away() {
  mlc_wanted=$1
  for mlc_pause in 0 0.2 0.8 1 1 2 2; do
    [ "$mlc_pause" = 0 ] || mlc_sleep "$mlc_pause"
    mlc_succeeds "$mlc_remove" 10 999 && mlc_wanted=$((mlc_wanted - 1))
    [ "$mlc_wanted" -gt 0 ] || return 0
    [ "$1" -eq 1 ] || mlc_sleep 0.8
  done
}
"""

# --- locks, as locks.py has them --------------------------------------------------------------------------------------

LOCKS = r"""
mlc_entry_is_dead() {  # NAME of a lock's entry
  case $1 in pid=[0-9]*,start=*,host=*,boot=*,space=*,token=*) ;; *) return 1;; esac
  mlc_e_pid=${1#pid=} mlc_e_start=${1#*,start=} mlc_e_host=${1#*,host=} mlc_e_boot=${1#*,boot=} mlc_e_space=${1#*,space=}
  mlc_e_pid=${mlc_e_pid%%,*} mlc_e_start=${mlc_e_start%%,*} mlc_e_host=${mlc_e_host%%,*}
  mlc_e_boot=${mlc_e_boot%%,*} mlc_e_space=${mlc_e_space%%,*}
  [ "$mlc_e_host" = "$mlc_host" ] || return 1
  [ "$mlc_e_boot" = "$mlc_boot" ] || return 0
  [ "$mlc_e_space" = "$mlc_space" ] || return 1
  ! mlc_is_running "$mlc_e_pid" "$mlc_e_start"
}

mlc_entries() {  # mlc_first_entry, and mlc_holder: one that may be alive, in words
  mlc_first_entry='' mlc_holder=''
  for mlc_file in "$mlc_place"/pid=*; do
    [ -e "$mlc_file" ] || continue
    mlc_file=${mlc_file##*/}
    [ "$mlc_file" = "$mlc_me" ] && continue
    mlc_first_entry=${mlc_first_entry:-$mlc_file}
    mlc_entry_is_dead "$mlc_file" || mlc_holder="process $mlc_e_pid on $mlc_e_host"
  done
}

# With our entry there: is it the only one of a living process? If not, withdraw.
mlc_is_alone() {
  mlc_entries
  if [ -n "$mlc_holder" ]; then mlc_give_back; return 1; fi
  for mlc_file in "$mlc_place"/pid=*; do
    [ "${mlc_file##*/}" = "$mlc_me" ] || rm -f -- "$mlc_file"
  done
}

mlc_give_back() {
  rm -f -- "$mlc_place/$mlc_me"
  rmdir -- "$mlc_place" 2>/dev/null
}

mlc_take() {  # once; 2: no lock can be made there
  if mkdir -m 700 -- "$mlc_place" 2>/dev/null; then
    if (set -C; : >"$mlc_place/$mlc_me") 2>/dev/null; then mlc_is_alone; return; fi
    [ -d "$mlc_place" ] || return 1
    rmdir -- "$mlc_place" 2>/dev/null
    return 2
  fi
  if [ ! -d "$mlc_place" ]; then  # either it was given back just now, or none can be made
    [ ! -e "$mlc_place" ] && [ -w "$mlc_locks" ] && [ -x "$mlc_locks" ] && mlc_holder='' mlc_first_entry='' && return 1
    return 2
  fi
  mlc_entries
  if [ -z "$mlc_first_entry" ]; then  # half made: nobody's after 5 seconds
    mlc_empty=$((mlc_empty + 1))
    [ "$mlc_empty" -lt 100 ] || { rmdir -- "$mlc_place" 2>/dev/null; mlc_empty=0; }
    mlc_holder='another process'
    return 1
  fi
  mlc_empty=0
  [ -z "$mlc_holder" ] || return 1
  mv -- "$mlc_place/$mlc_first_entry" "$mlc_place/$mlc_me" 2>/dev/null || return 1
  mlc_is_alone
}

# Hold the step's lock: 0 also where there is no place for locks; 1: cancelled, or waited for too long (mlc_tail).
mlc_lock() {
  mlc_place=''
  [ -n "$mlc_lock_name" ] && [ -n "$mlc_locks" ] || return 0
  mlc_place=$mlc_locks/$mlc_lock_name mlc_tries=0 mlc_told='' mlc_empty=0
  (umask 077; mkdir -p -- "$mlc_locks") 2>/dev/null
  while :; do
    mlc_take
    case $? in
      0) return 0;;
      2) mlc_say "going on without a lock for '$mlc_title': no lock can be made in $mlc_locks"; mlc_place=''; return 0;;
    esac
    if [ "$mlc_told" != "$mlc_holder" ] && [ -n "$mlc_first_entry" ]; then
      mlc_told=$mlc_holder
      mlc_say "waiting for $mlc_holder, who is busy with $mlc_lock_key"
    fi
    mlc_sleep 0.05
    mlc_may_go_on || { mlc_place='' mlc_result=cancelled; return 1; }
    mlc_tries=$((mlc_tries + 1))
    if [ "$mlc_tries" -gt 72000 ]; then
      mlc_tail="gave up after an hour of waiting for $mlc_holder, who is busy with $mlc_lock_key" mlc_place=''
      mlc_result=environment mlc_code=1
      return 1
    fi
  done
}

mlc_unlock() { [ -z "$mlc_place" ] || mlc_give_back; mlc_place=''; }
"""
