"""The locks between runs (locks.py) as functions of a POSIX shell, so that supervised runs and others exclude each other."""

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
