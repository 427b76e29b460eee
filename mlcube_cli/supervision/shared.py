"""What every script about a supervised run begins with, as functions of a POSIX shell.

All names begin with `mlc_`, so that a variable of the user's environment that is exported keeps its value. Nothing is
needed but what busybox has; /proc, fractions of a second and setsid are used where they are.
"""

COMMON = r"""
# When a process started and in what state it is, from /proc: mlc_start, mlc_condition; empty where it does not say.
mlc_look_at() {
  mlc_start='' mlc_condition='' mlc_stat=''
  [ -r "/proc/$1/stat" ] || return 0
  { while IFS= read -r mlc_line; do mlc_stat="$mlc_stat $mlc_line"; done; } 2>/dev/null <"/proc/$1/stat"
  set -- ${mlc_stat##*)}
  mlc_condition=${1-} mlc_start=${20-}
}

mlc_is_running() {  # PID START: is it alive, and still the one that started then?
  kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ] || return 1
  mlc_look_at "$1"
  case $mlc_condition in Z|X) return 1;; esac
  [ -z "$mlc_start" ] || [ -z "$2" ] || [ "$mlc_start" = "$2" ]
}

# This machine as locks.py names it: mlc_host, mlc_boot, mlc_space.
mlc_identify() {
  mlc_host='' mlc_boot='' mlc_space=''
  [ -r /proc/sys/kernel/hostname ] && read -r mlc_host </proc/sys/kernel/hostname
  mlc_host=${mlc_host:-$(uname -n)}
  case $mlc_host in *[!A-Za-z0-9_.-]*) mlc_host=$(printf %s "$mlc_host" | tr -c 'A-Za-z0-9_.-' _);; esac
  [ -r /proc/sys/kernel/random/boot_id ] && read -r mlc_boot </proc/sys/kernel/random/boot_id
  while :; do case $mlc_boot in *-*) mlc_boot=${mlc_boot%%-*}${mlc_boot#*-};; *) break;; esac; done
  mlc_space=$(readlink /proc/self/ns/pid 2>/dev/null)
  mlc_space=${mlc_space#*[} mlc_space=${mlc_space%]}
}

# Who supervises the run in directory $1: mlc_owner is alive, dead, foreign (another machine's) or none.
mlc_find_owner() {
  mlc_owner=none mlc_owner_words='- - - -' mlc_o_pid='' mlc_o_start='' mlc_o_host='' mlc_o_boot='' mlc_o_space='' mlc_o_uid=''
  mlc_o_node='' mlc_o_partition=''
  [ -r "$1/owner" ] || return 0
  while IFS='=' read -r mlc_key mlc_value; do
    case $mlc_key in
      pid) mlc_o_pid=$mlc_value;; start) mlc_o_start=$mlc_value;; host) mlc_o_host=$mlc_value;;
      boot) mlc_o_boot=$mlc_value;; space) mlc_o_space=$mlc_value;; uid) mlc_o_uid=$mlc_value;;
      node) mlc_o_node=$mlc_value;; partition) mlc_o_partition=$mlc_value;;
    esac
  done <"$1/owner"
  mlc_owner_words="${mlc_o_host:--} ${mlc_o_boot:--} ${mlc_o_node:--} ${mlc_o_partition:--}"
  case $mlc_o_pid in ''|*[!0-9]*) return 0;; esac
  mlc_owner=dead
  if [ "$mlc_o_host" != "$mlc_host" ]; then mlc_owner=foreign
  elif [ "$mlc_o_boot" != "$mlc_boot" ]; then :
  elif [ "$mlc_o_space" != "$mlc_space" ]; then mlc_owner=foreign
  elif mlc_is_running "$mlc_o_pid" "$mlc_o_start"; then mlc_owner=alive
  fi
}

# The words of a state file: mlc_status, mlc_code, mlc_started, mlc_ended.
mlc_read_state() {
  mlc_status='' mlc_code=- mlc_started=- mlc_ended=-
  [ -r "$1" ] && read -r mlc_status mlc_code mlc_started mlc_ended mlc_line <"$1"
  mlc_code=${mlc_code:--} mlc_started=${mlc_started:--} mlc_ended=${mlc_ended:--}
}

mlc_is_over() { case $1 in ''|queued|running) return 1;; esac; }

mlc_sleep() {
  sleep "$1" 2>/dev/null && return
  case $1 in *.*) sleep $((${1%%.*} + 1));; esac
}

mlc_sizes_of() {  # FILE...: mlc_sizes, a number each
  mlc_sizes=$(stat -L -c %s -- "$@" 2>/dev/null) && return
  mlc_sizes=''
  for mlc_file in "$@"; do
    if [ -r "$mlc_file" ]; then mlc_sizes="$mlc_sizes $(wc -c <"$mlc_file")"; else mlc_sizes="$mlc_sizes 0"; fi
  done
}

mlc_frame() { printf '@%s %s\n%s' "$1" "$2" "$3"; }

# A text in a frame of its own, whose length is counted in bytes.
mlc_text_frame() {  # NAME TEXT [ASCII]
  if [ -n "${3-}" ]; then mlc_length=${#2}; else mlc_length=$(printf %s "$2" | wc -c); fi
  mlc_frame "$1" $((mlc_length)) "$2"
}

# DIRECTORY: its message and its hint as further lines of a state: mlc_why_text.
mlc_why_so() {
  mlc_why_text=''
  [ -s "$1/message" ] && mlc_why_text=$mlc_newline$(head -c 65536 "$1/message")
  [ -s "$1/hint" ] && mlc_why_text="$mlc_why_text${mlc_newline}hint: $(head -c 65536 "$1/hint")"
}
mlc_newline='
'
"""

# --- what the supervisor has to say, as it comes ---------------------------------------------------------------------

FOLLOW = r"""
# Bytes of file $2 from offset $3 on, up to size $4, as a frame called $1.
mlc_piece() {
  [ "$4" -gt "$3" ] || return 1
  mlc_frame "$1" $(($4 - $3)) ''
  tail -c +$(($3 + 1)) -- "$2" | head -c $(($4 - $3))
}

# RUN_ID DIRECTORY: what a task printed since it was last looked at; its state, when that is another one.
mlc_follow_task() {
  mlc_number=$((mlc_number + 1))
  eval "mlc_before=\$mlc_state_$mlc_number"
  mlc_is_over "${mlc_before%% *}" && return
  mlc_read_state "$2/state"
  mlc_now_state="$mlc_status $mlc_code $mlc_started $mlc_ended"
  if [ "$mlc_status" != queued ] && [ -n "$mlc_status" ]; then
    [ "$mlc_status" != running ] || mlc_busy=1
    eval "mlc_out=\$mlc_out_$mlc_number mlc_err=\$mlc_err_$mlc_number"
    mlc_sizes_of "$2/stdout.log" "$2/stderr.log"
    set -- "$1" "$2" $mlc_sizes
    mlc_piece "o:$1" "$2/stdout.log" "$mlc_out" "${3:-0}" && mlc_moved=1 && eval "mlc_out_$mlc_number=$3"
    mlc_piece "e:$1" "$2/stderr.log" "$mlc_err" "${4:-0}" && mlc_moved=1 && eval "mlc_err_$mlc_number=$4"
  fi
  if [ "$mlc_now_state" != "$mlc_before" ] && [ -n "$mlc_status" ]; then
    mlc_moved=1
    eval "mlc_state_$mlc_number=\$mlc_now_state"
    mlc_frame "s:$1" "${#mlc_now_state}" "$mlc_now_state"
  fi
}

# Everything that there is now. Returns 1 when the end was told.
mlc_follow_once() {
  mlc_moved='' mlc_number=0
  mlc_read_state "$mlc_directory/state"
  mlc_find_owner "$mlc_directory"
  if ! mlc_is_over "$mlc_status"; then
    case $mlc_owner in dead) mlc_read_state "$mlc_directory/state"; mlc_is_over "$mlc_status" || mlc_status=lost;; esac
  fi
  mlc_end="$mlc_status $mlc_code $mlc_started $mlc_ended"
  # while a task runs, what else is said is looked for less often
  if [ -z "${mlc_busy-}" ] || mlc_is_over "${mlc_end%% *}" || [ $((${mlc_naps:-0} % 8)) -eq 0 ]; then
    mlc_sizes_of "$mlc_directory/said" "$mlc_directory/prepare.log"
    mlc_follow_ours $mlc_sizes
  fi
  mlc_busy=''
  mlc_each_task
  mlc_is_over "${mlc_end%% *}" || return 0
  case $mlc_end in lost*) mlc_end="lost 4 ${mlc_end#* * }";; esac
  mlc_confirm
  mlc_why_so "$mlc_directory"
  mlc_ascii=1
  [ -z "$mlc_why_text" ] || mlc_ascii=''
  mlc_text_frame S "$mlc_end $mlc_owner $mlc_owner_words$mlc_why_text" $mlc_ascii
  return 1
}

mlc_follow_ours() {
  mlc_piece t "$mlc_directory/said" "$mlc_said" "${1:-0}" && mlc_moved=1 mlc_said=$1
  mlc_piece p "$mlc_directory/prepare.log" "$mlc_prepared" "${2:-0}" && mlc_moved=1 mlc_prepared=$2
}

mlc_confirm() { :; }  # before an end is told
mlc_also() { :; }  # after each look

mlc_is_heard() { kill -0 "$PPID" 2>/dev/null || [ -d "/proc/$PPID" ]; }
mlc_parent=1  # before anything is started: whoever goes in that moment has gone, too
mlc_is_heard || mlc_parent=''

# Until the end, or until nobody listens any more: a frame without content now and then finds that out.
mlc_follow() {
  mlc_end='lost 4 - -'
  if [ ! -e "$mlc_directory/mlcube-run" ]; then mlc_confirm; mlc_text_frame S "$mlc_end"; return; fi
  mlc_naps=0 mlc_quiet=0
  while mlc_follow_once; do
    [ -n "$mlc_parent" ] && ! mlc_is_heard && return
    mlc_also
    [ -n "$mlc_moved" ] && mlc_naps=0 mlc_quiet=0
    mlc_naps=$((mlc_naps + 1)) mlc_quiet=$((mlc_quiet + 1))
    if [ "$mlc_naps" -lt 10 ]; then mlc_sleep 0.02
    elif [ "$mlc_naps" -lt 30 ]; then mlc_sleep 0.1
    else mlc_sleep 0.5
    fi
    [ "$mlc_quiet" -lt 50 ] || { mlc_quiet=0; mlc_frame k 0 ''; }
  done
}
"""

# Of a batch job: what its scheduler says of it, besides (`mlc_ask_queue MAXAGE`, as Scheduler.queue_functions defines it).
FOLLOW_QUEUE = r"""
mlc_pause=1 mlc_next='' mlc_asked_file='' mlc_heard='' mlc_asker=''

mlc_seconds() {  # mlc_second: of any clock that goes on
  mlc_second=''
  [ -r /proc/uptime ] && read -r mlc_second mlc_line </proc/uptime && mlc_second=${mlc_second%%.*}
  mlc_second=${mlc_second:-$(date +%s)}
}

# It is asked beside the work, soon at first and then every 30 seconds. What it said goes out a look later: what the run has
# told until then of its end counts more.
mlc_also() {
  if [ -n "$mlc_heard" ]; then mlc_text_frame q "$mlc_heard"; mlc_heard=''; fi
  mlc_seconds
  if [ -n "$mlc_asker" ]; then
    [ -e "$mlc_asked_file" ] || ! kill -0 "$mlc_asker" 2>/dev/null || [ $((mlc_second - mlc_next)) -gt 120 ] || return 0
    mlc_heard=$(cat -- "$mlc_asked_file" 2>/dev/null)
    rm -f -- "$mlc_asked_file"
    case $mlc_heard in
      *'== end') wait "$mlc_asker";;
      *) mlc_heard=$(mlc_ask_queue "$mlc_pause" 2>/dev/null);;  # nothing can be kept there: the disk is full
    esac
    mlc_asker=''
    mlc_next=$((mlc_second + mlc_pause))
  fi
  mlc_next=${mlc_next:-$((mlc_second + 1))}
  [ "$mlc_second" -ge "$mlc_next" ] || return 0
  mlc_asked_file=$mlc_directory/.asked.$$
  (mlc_ask_queue "$mlc_pause" </dev/null; mv -f -- "$mlc_asked_file.new" "$mlc_asked_file") \
    2>/dev/null >"$mlc_asked_file.new" &
  mlc_asker=$! mlc_next=$mlc_second
  mlc_pause=$((mlc_pause * 2))
  [ "$mlc_pause" -le 30 ] || mlc_pause=30
}

# A run that was ended, or whose supervisor is gone, may have been so by the scheduler, and may be started again.
mlc_confirm() { (mlc_has_ended "$mlc_directory") || mlc_text_frame Q "$(mlc_ask_queue 0 2>/dev/null)"; }
"""

# For a reader who is a person: what tasks print as it is, the rest on stderr, and the exit code (`run --dry-run` shows it).
PLAIN = r"""
mlc_frame() { :; }
mlc_text_frame() { [ "$1" != a ] || [ "$2" = started ] || printf '%s\n' "$2" >&2; }
mlc_piece() {
  [ "$4" -gt "$3" ] || return 1
  case $1 in
    o:*) tail -c +$(($3 + 1)) -- "$2" | head -c $(($4 - $3));;
    *) tail -c +$(($3 + 1)) -- "$2" | head -c $(($4 - $3)) >&2;;
  esac
}
mlc_leave() {
  [ -z "$mlc_why_text" ] || printf '%s\n' "${mlc_why_text#?}" >&2
  set -- $mlc_end
  exit "$2"
}
"""

# --- what became of runs ---------------------------------------------------------------------------------------------

STATES = r"""
# DIRECTORY [ASCII]: what is known of a command; its tasks follow by mlc_state_of_task.
mlc_state_of() {
  mlc_text_frame d "$1" "${2-}"
  mlc_read_state "$1/state"
  mlc_find_owner "$1"
  if ! mlc_is_over "$mlc_status" && [ "$mlc_owner" = dead ]; then mlc_read_state "$1/state"; fi
  mlc_why_so "$1"
  mlc_end="${mlc_status:--} $mlc_code $mlc_started $mlc_ended"
  mlc_ascii=1
  [ -z "$mlc_why_text" ] || mlc_ascii=''
  mlc_text_frame S "$mlc_end $mlc_owner $mlc_owner_words$mlc_why_text" $mlc_ascii
}

mlc_state_of_task() {  # RUN_ID DIRECTORY
  mlc_read_state "$2/state"
  mlc_sizes_of "$2/stdout.log" "$2/stderr.log"
  set -- "$1" $mlc_sizes
  mlc_line="${mlc_status:--} $mlc_code $mlc_started $mlc_ended ${2:-0} ${3:-0}"
  mlc_frame "s:$1" "${#mlc_line}" "$mlc_line"
}
"""

# Asked after all of them have told how they are.
STATES_QUEUE = r"""
mlc_state_of_queue() { mlc_text_frame q "$(mlc_ask_queue 30 2>/dev/null)"; }
"""

# --- ending and removing ---------------------------------------------------------------------------------------------

CANCEL = r"""
# DIRECTORY SIGNAL HOW NONCE: ask whoever supervises it to end it, until he has noticed.
mlc_cancel() {
  [ -e "$1/mlcube-run" ] || { echo gone; return; }
  mlc_read_state "$1/state"
  mlc_find_owner "$1"
  if [ "$mlc_owner" = foreign ]; then echo foreign; return; fi
  if [ "$mlc_owner" != alive ]; then
    mlc_is_over "$mlc_status" && [ ! -s "$1/at" ] && { echo ended; return; }
    # whoever supervised it was killed: what it had started is ended here
    sh "$1/program" end </dev/null >/dev/null 2>>"$1/supervisor.log"
    echo gone
    return
  fi
  mlc_is_over "$mlc_status" && { echo ended; return; }
  printf '%s %s\n' "$2" "$3" >"$1/.cancel.$4" && mv -f -- "$1/.cancel.$4" "$1/cancel.$4"
  mlc_tries=0
  while [ -e "$1/cancel.$4" ] && [ "$mlc_tries" -lt 100 ] && mlc_is_running "$mlc_o_pid" "$mlc_o_start"; do
    kill -USR1 "$mlc_o_pid" 2>/dev/null
    mlc_tries=$((mlc_tries + 1))
    mlc_sleep 0.02
  done
  echo sent
}
"""

REMOVE = r"""
# DIRECTORY: remove it when it bears our mark, is ours, and nobody works there.
mlc_remove() {
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then echo absent; return; fi
  if [ -L "$1" ] || [ ! -d "$1" ] || [ ! -f "$1/mlcube-run" ] || [ -L "$1/mlcube-run" ]; then echo unmarked; return; fi
  read -r mlc_mark <"$1/mlcube-run"
  [ "$mlc_mark" = mlcube-run ] || { echo unmarked; return; }
  mlc_tries=0
  while :; do
    mlc_find_owner "$1"
    case $mlc_owner in
      foreign) echo foreign; return;;
      alive) mlc_read_state "$1/state"
        mlc_is_over "$mlc_status" && [ "$mlc_tries" -lt 50 ] || { echo busy; return; };;
      *) break;;
    esac
    mlc_tries=$((mlc_tries + 1))
    mlc_sleep 0.05
  done
  find "$1" -type d ! -perm -700 -exec chmod u+rwx -- '{}' ';' 2>/dev/null
  rm -rf -- "$1" 2>/dev/null
  if [ -e "$1" ]; then echo left; else echo removed; fi
}
"""
