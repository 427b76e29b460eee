"""The supervisor as functions of a POSIX shell: it does with steps and tasks what process.py and cli/executing.py do.

What the generated part of a program sets before a step: mlc_title, the names of the functions of its commands (mlc_unless,
mlc_before, mlc_command, mlc_otherwise, mlc_then, mlc_after; mlc_ask, mlc_kill, mlc_remove of its Stop; mlc_sign, mlc_codes,
mlc_why of its Sign), mlc_lock_name and mlc_lock_key, mlc_payload, mlc_passes_on, mlc_silent, mlc_fallback (its hint).
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
  ! mlc_is_last_call || mlc_due=1
  if mlc_await "$mlc_child" 0; then mlc_clear_timer; mlc_settle; mlc_result=failed; mlc_look_who_ended_it
  else mlc_clear_timer; mlc_result=timed_out; mlc_end
  fi
  [ "$mlc_result" = failed ] && [ "$mlc_code" -eq 0 ] && mlc_result=succeeded
  if [ "$mlc_result" = timed_out ]; then mlc_code=124; [ "$mlc_requests" -eq 0 ] || mlc_result=failed; fi
  case $mlc_code in 126|127) mlc_if_unstarted;; esac
  [ "$mlc_result" = succeeded ] && return
  [ -n "$mlc_tail" ] || [ -n "$mlc_own" ] || mlc_last_lines "$mlc_directory/prepare.log" "$mlc_from"
  return 1
}

# A batch system ends a job from the leaves of its tree on: a task may end of that before we are asked to end it [tried].
mlc_look_who_ended_it() {
  [ -n "$mlc_batch" ] && [ -n "$mlc_own" ] || return 0
  mlc_kept=$mlc_code
  mlc_sleep 0.1
  mlc_listen
  mlc_code=$mlc_kept
  [ "$mlc_requests" -eq 0 ] || mlc_result=cancelled
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
