"""The supervisor's upper half, as functions of a POSIX shell: steps, tasks, the whole command, and what is told of its end."""

STEPS = r"""
mlc_new_step() {
  mlc_unless='' mlc_before='' mlc_command='' mlc_otherwise='' mlc_then='' mlc_after='' mlc_lock_name='' mlc_lock_key=''
  mlc_payload='' mlc_passes_on='' mlc_ask='' mlc_kill='' mlc_remove='' mlc_sign='' mlc_codes='' mlc_why='' mlc_fallback=''
  mlc_silent='' mlc_reasons=:
}

mlc_holds() { mlc_succeeds "$1" 60 0; }

# One step: 0 when it succeeded. Else mlc_status, mlc_exit, mlc_message and mlc_help say how the command ends.
mlc_carry_out() {
  mlc_begun='' mlc_result=succeeded mlc_tail='' mlc_which_one='' mlc_first_tail='' mlc_first='' mlc_place='' mlc_own=''
  mlc_step_in_order
  if [ "$mlc_result" != succeeded ]; then mlc_judge; fi
  [ -z "$mlc_begun" ] || mlc_clean_up
  : >"$mlc_directory/at"
  [ "$mlc_result" = succeeded ]
}

mlc_step_in_order() {
  mlc_may_go_on || { mlc_result=cancelled; return; }
  if [ -n "$mlc_unless" ]; then
    mlc_holds "$mlc_unless" && return
    mlc_may_go_on || { mlc_result=cancelled; return; }
  fi
  mlc_lock || return
  if [ -z "$mlc_place" ] || [ -z "$mlc_unless" ] || ! mlc_holds "$mlc_unless"; then
    mlc_begun=1
    [ -n "$mlc_run_id" ] || [ -n "$mlc_silent" ] || mlc_say "$mlc_title"
    mlc_all_of_it
  fi
  mlc_unlock
}

mlc_all_of_it() {
  for mlc_one in $mlc_before; do mlc_execute "$mlc_one" || return; done
  if ! mlc_execute "$mlc_command"; then
    [ -n "$mlc_otherwise" ] || return
    case $mlc_result in failed|environment) ;; *) return;; esac
    mlc_first=$mlc_command mlc_first_tail=$mlc_tail
    mlc_execute "$mlc_otherwise" || return
  fi
  for mlc_one in $mlc_then; do mlc_execute "$mlc_one" || return; done
}

mlc_clean_up() {
  mlc_left=''
  for mlc_one in $mlc_after; do
    if mlc_succeeds "$mlc_one" 600 999; then mlc_left=''; else mlc_left=$mlc_one; fi
  done
  [ -z "$mlc_left" ] && return
  "mlc_text_${mlc_left#mlc_c}"
  mlc_say "something is left of '$mlc_title'; to remove it: ${mlc_text#\$ }"
}

# A step that did not succeed: whose doing was it? The number alone does not tell (RULINGS 20).
mlc_judge() {
  if [ "$mlc_requests" -gt 0 ]; then mlc_result=cancelled; fi
  if [ "$mlc_result" = cancelled ] && [ -n "$mlc_batch" ]; then
    if [ "$mlc_requests" -eq 0 ] || mlc_is_time_up; then mlc_result=timed_out; fi
  fi
  case $mlc_result in
    cancelled) mlc_finish cancelled $((128 + ${mlc_signal:-15})) "task '$mlc_task' was cancelled"
      [ -n "$mlc_task" ] || mlc_message="cancelled: $mlc_title"
      return;;
    timed_out) mlc_finish timed_out 124 "task '$mlc_task' was ended: its time was up"
      [ -n "$mlc_task" ] || mlc_message="ended: $mlc_title: its time was up"
      return;;
  esac
  if [ -n "$mlc_own" ]; then mlc_judge_payload; else mlc_step_failed; fi
}

mlc_judge_payload() {
  if [ "$mlc_result" = environment ]; then
    mlc_finish environment 4 "${mlc_tail:-could not $mlc_title}" "$mlc_fallback"
  elif mlc_had_started; then
    mlc_finish failed "$mlc_code" "task '$mlc_task' failed with exit code $mlc_code"
  else
    mlc_reason='' mlc_help='' mlc_title="the engine could not start task '$mlc_task' (its exit code $mlc_code)"
    if [ -n "$mlc_why" ]; then
      : >"$mlc_directory/answer"
      mlc_succeeds "$mlc_why" 60 999 /dev/null "$mlc_directory/answer"
      mlc_last_lines "$mlc_directory/answer" 0
      mlc_find_reason "$mlc_tail"
    fi
    if [ -n "$mlc_reason" ]; then mlc_finish environment 4 "$mlc_title: $mlc_reason" "$mlc_help"
    else
      "mlc_text_${mlc_command#mlc_c}"
      mlc_finish environment 4 "$mlc_title$mlc_newline  $mlc_text" "$mlc_fallback"
      [ -n "$mlc_help" ] || mlc_help="the engine's own message stands above"
    fi
  fi
}

mlc_had_started() {
  [ -n "$mlc_sign" ] || return 0
  case " $mlc_codes " in '  ') ;; *" $mlc_code "*) ;; *) return 0;; esac
  : >"$mlc_directory/answer"
  mlc_kept=$mlc_code
  mlc_succeeds "$mlc_sign" 60 999 "$mlc_directory/answer"
  mlc_code=$mlc_kept
  grep -q '[^[:space:]]' <"$mlc_directory/answer"
}

# TEXT: mlc_reason and mlc_help, where the step knows what it means.
mlc_find_reason() {
  mlc_reason='' mlc_help=''
  mlc_low=$(printf %s "$1" | tr '[:upper:]' '[:lower:]')
  "$mlc_reasons" "$mlc_low"
}

# The step, the command ready to paste, its last lines, its exit code; why, where that is known.
mlc_step_failed() {
  mlc_kind=preparation mlc_exit=5 mlc_kept=$mlc_tail
  [ "$mlc_result" != environment ] || { mlc_kind=environment mlc_exit=4; }
  mlc_find_reason "$mlc_tail"
  if [ -z "$mlc_reason" ]; then
    mlc_help=$mlc_fallback
    case " $mlc_before $mlc_then " in *" $mlc_which_one "*) mlc_help='';; esac
    [ -n "$mlc_help" ] || mlc_help="the lines above are the tool's own; the command can be pasted into a shell"
  fi
  mlc_lines="could not $mlc_title (exit code $mlc_code)${mlc_reason:+: $mlc_reason}"
  [ -z "$mlc_first" ] || mlc_add_attempt "$mlc_first" "$mlc_first_tail"
  [ -z "$mlc_which_one" ] || mlc_add_attempt "$mlc_which_one" "$mlc_kept"
  [ -n "$mlc_which_one" ] || mlc_lines=$mlc_lines${mlc_kept:+$mlc_newline  | $mlc_kept}
  mlc_finish "$mlc_kind" "$mlc_exit" "$mlc_lines" "$mlc_help"
}

mlc_add_attempt() {  # FUNCTION TAIL
  "mlc_text_${1#mlc_c}"
  mlc_lines="$mlc_lines$mlc_newline  $mlc_text"
  [ -z "$2" ] || mlc_lines="$mlc_lines$mlc_newline$(printf '%s\n' "$2" | sed 's/^/  | /')"
}

mlc_finish() {  # STATUS CODE MESSAGE HINT
  mlc_status=$1 mlc_exit=$2 mlc_message=$3 mlc_help=${4-}
}
"""

COMMAND = r"""
mlc_begin_task() {  # RUN_ID DIRECTORY NAME GRACE GRACE_UP TIMEOUT
  mlc_run_id=$1 mlc_task_directory=$2 mlc_task=$3 mlc_grace=$4 mlc_grace_up=$5 mlc_timeout=$6
  mlc_now
  mlc_task_since=$mlc_time
  mlc_put "$2/state" "running - $mlc_task_since -"
}

# PATH...: inputs once more, now that the earlier tasks have run (RULINGS 4).
mlc_need() {
  for mlc_file in "$@"; do
    [ -e "$mlc_file" ] && continue
    mlc_finish invalid 3 "task '$mlc_task': its input $mlc_file is not there" 'the task before it was to make it'
    return 1
  done
}

mlc_end_task() {
  mlc_now
  mlc_put "$mlc_task_directory/state" "$mlc_status $mlc_exit $mlc_task_since $mlc_time"
  [ "$mlc_status" = succeeded ]
}

mlc_queue() { [ -e "$2/state" ] || printf 'queued - - -\n' >"$2/state"; : >>"$2/stdout.log"; : >>"$2/stderr.log"; }

mlc_set_up() {
  mlc_return=$(printf '\r')
  mlc_requests=0 mlc_signal='' mlc_due='' mlc_timer='' mlc_child='' mlc_run_id='' mlc_task='' mlc_grace=10 mlc_grace_up=10
  mlc_last_call='' mlc_passed='' mlc_batch=${mlc_batch-}
  mlc_clock='' mlc_timeout='' mlc_step='' mlc_own='' mlc_place=''
  mlc_finish succeeded 0 ''
  mlc_traps
  mlc_which setsid; mlc_setsid=$mlc_path
  mlc_which sh; mlc_sh=$mlc_path
  mlc_which env; mlc_env=$mlc_path
  [ -z "$mlc_env" ] || "$mlc_env" --default-signal=INT,QUIT >/dev/null 2>&1 || mlc_env=''
  printf 'mlcube-mark\0' >"$mlc_directory/mark"
  if [ $# -eq 4 ]; then mlc_host=$2 mlc_boot=$3 mlc_space=$4; else mlc_identify; fi
  mlc_look_at $$
  mlc_my_start=$mlc_start
  mlc_me="pid=$$,start=$mlc_my_start,host=$mlc_host,boot=$mlc_boot,space=$mlc_space,token=$mlc_token"
}

mlc_find_uid() {
  mlc_uid=''
  if [ -r /proc/$$/status ]; then
    while read -r mlc_line mlc_uid mlc_rest; do [ "$mlc_line" != Uid: ] || break; done </proc/$$/status
  fi
  mlc_uid=${mlc_uid:-$(id -u)}
}

# UMASK HOST BOOT SPACE: what the generated part calls last; the latter three as mlc_identify finds them.
# `end`: whoever supervised this was killed; what he had started is ended here.
mlc_go() {
  umask 077
  mlc_set_up "$@"
  if [ "${1-}" = end ]; then mlc_end_orphans; return; fi
  mlc_umask=${1:-022}
  [ -z "$mlc_batch" ] || mlc_start_over
  mlc_each_task mlc_queue
  mlc_now
  mlc_since=$mlc_time
  # nobody looks for the owner before there is a state
  mlc_find_uid
  mlc_put "$mlc_directory/owner" "$(printf '%s\n' "uid=$mlc_uid" "host=$mlc_host" "boot=$mlc_boot" "pid=$$" \
    "start=$mlc_my_start" "space=$mlc_space" ${mlc_batch:+"node=${SLURM_JOB_NODELIST:-${SLURMD_NODENAME-}}" \
    "partition=${SLURM_JOB_PARTITION-}"})"
  # what nobody could be told of is not begun
  { printf '%s\n' "running - $mlc_since -" >"$mlc_directory/state"; } 2>/dev/null || exit 4
  mlc_everything
  mlc_over
}

mlc_over() {
  mlc_now
  if [ -n "$mlc_message" ]; then
    { printf '%s\n' "$mlc_message" >"$mlc_directory/message"; } 2>/dev/null
    [ -z "$mlc_help" ] || { printf '%s\n' "$mlc_help" >"$mlc_directory/hint"; } 2>/dev/null
  fi
  mlc_put "$mlc_directory/state" "$mlc_status $mlc_exit $mlc_since $mlc_time"
  # a job that its batch system has ended may be started again
  [ -z "$mlc_batch" ] || [ "$mlc_status" = cancelled ] || rm -f -- "$mlc_directory/secrets"
}

# A batch system starts a job again where it has been before: nothing of that is taken for a word of this time.
mlc_start_over() {
  [ -e "$mlc_directory/owner" ] || return 0
  mlc_find_owner "$mlc_directory"
  [ "$mlc_owner" != dead ] || mlc_end_rest
  for mlc_file in "$mlc_directory"/cancel.*; do rm -f -- "$mlc_file"; done
  rm -f -- "$mlc_directory/message" "$mlc_directory/hint" "$mlc_directory/at" "$mlc_directory/unstarted"
  mlc_each_task mlc_requeue
  mlc_say "the job starts again, on $mlc_host"
}

mlc_requeue() { mlc_put "$2/state" 'queued - - -'; }  # RUN_ID DIRECTORY

# The step that was at work says how its container is ended and what it leaves; the rest bears the mark.
mlc_end_orphans() {
  mlc_umask=077 mlc_requests=1
  mlc_read_state "$mlc_directory/state"
  mlc_find_owner "$mlc_directory"
  [ "$mlc_owner" = dead ] || return 1
  mlc_since=$mlc_started
  mlc_end_rest
  mlc_each_task mlc_lose
  mlc_finish lost 4 'whoever supervised it was ended from outside'
  mlc_over
}

mlc_end_rest() {
  [ -s "$mlc_directory/at" ] || return 0
  read -r mlc_child mlc_started_then mlc_step mlc_mark <"$mlc_directory/at"
  [ "$mlc_mark" != - ] || mlc_mark=''
  mlc_look_at "$mlc_child"
  # a leader that is gone may have left others in its session; one that is another process by now is none of ours
  { [ -z "$mlc_start" ] || [ "$mlc_start" = "$mlc_started_then" ]; } && [ "$mlc_o_boot" = "$mlc_boot" ] || mlc_child=none
  "mlc_set_$mlc_step"
  mlc_requests=0
  [ -z "$mlc_kill" ] || { mlc_succeeds "$mlc_kill" 10 999; mlc_take_away 1; }
  mlc_kill_family "$mlc_child" "$mlc_mark"
  mlc_clean_up
  : >"$mlc_directory/at"
}

mlc_lose() {  # RUN_ID DIRECTORY
  mlc_kill_family none "$1"
  mlc_read_state "$2/state"
  [ "$mlc_status" != running ] || { mlc_now; mlc_put "$2/state" "lost 4 $mlc_started $mlc_time"; }
}
"""
