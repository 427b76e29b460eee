"""What looks at another machine, as functions of a POSIX shell: nothing is needed there but what busybox has, too.

A script of `there_script` begins with this text, behind the values of `mlc_nonce` and `mlc_seconds` (for a probe). Answers
go to stdout as fields that end with a NUL byte; contents of files and what commands say follow a field that states their
length. All names begin with `mlc_`, so that a variable of the user's environment that is exported keeps its value.
"""

FUNCTIONS = r"""
mlc_field() { printf '%s\0' "$@"; }

# The user's environment as it was, in a subshell that becomes a command.
mlc_plain() { if [ -n "$mlc_had_locale" ]; then LC_ALL=$mlc_locale; else unset LC_ALL; fi; }

# Output of a command to the byte, less one newline at its end, in mlc_word: $(...) alone takes all newlines away.
mlc_word_of() { mlc_word=$("$@" && printf x); mlc_word=${mlc_word%x}; mlc_word=${mlc_word%"$mlc_newline"}; }

# mlc_file: the executable of this name on PATH, as execvp finds it; empty where there is none.
mlc_find() {
  case $1 in */*) mlc_found "$1"; return;; esac
  mlc_rest=${PATH-/bin:/usr/bin}:
  while [ -n "$mlc_rest" ]; do
    mlc_directory=${mlc_rest%%:*} mlc_rest=${mlc_rest#*:}
    mlc_found "${mlc_directory:-.}/$1" && return
  done
  return 1
}
mlc_found() {
  mlc_file=
  [ -f "$1" ] && [ -x "$1" ] || return
  case $1 in
    /*) mlc_file=$1;;
    *) mlc_file=$1
       while :; do case $mlc_file in ./*) mlc_file=${mlc_file#./};; /*) mlc_file=${mlc_file#/};; *) break;; esac; done
       mlc_word_of pwd -P
       mlc_file=${mlc_word%/}/$mlc_file;;
  esac
}
mlc_tool() { mlc_file=; mlc_find "$2"; mlc_field "tool $1" "$mlc_file"; }

# mlc_real: the path with links resolved, as far as there is something; the rest of it as it stands.
mlc_resolve() {
  mlc_rest=$1/ mlc_real= mlc_links=0
  while [ -n "$mlc_rest" ]; do
    mlc_name=${mlc_rest%%/*} mlc_rest=${mlc_rest#*/}
    case $mlc_name in ''|.) continue;; ..) mlc_real=${mlc_real%/*}; continue;; esac
    if [ -L "$mlc_real/$mlc_name" ] && [ "$mlc_links" -lt 40 ]; then
      mlc_links=$((mlc_links + 1))
      mlc_word_of readlink -- "$mlc_real/$mlc_name"
      case $mlc_word in /*) mlc_real=;; esac
      mlc_rest=$mlc_word/$mlc_rest
    else
      mlc_real=$mlc_real/$mlc_name
    fi
  done
  mlc_real=${mlc_real:-/}
}

# mlc_above: the directory part, as dirname(3) has it.
mlc_parent() {
  case $1 in */*) mlc_above=${1%/*};; *) mlc_above=/;; esac
  while :; do case $mlc_above in */) mlc_above=${mlc_above%/};; *) break;; esac; done
  mlc_above=${mlc_above:-/}
}

mlc_rights() {
  mlc_read=0 mlc_write=0
  if [ -r "$1" ]; then mlc_read=1; fi
  if [ -w "$1" ]; then mlc_write=1; fi
}

mlc_path() {
  mlc_resolve "$2"
  if [ -d "$2" ]; then
    mlc_above=$2 mlc_kind=directory mlc_read=0 mlc_write=0
    if [ -x "$2" ]; then mlc_rights "$2"; fi
  elif [ -e "$2" ]; then
    mlc_parent "$mlc_real"
    if [ -f "$2" ]; then mlc_kind=file; else mlc_kind=other; fi
    mlc_rights "$2"
  else
    mlc_absent "$1" "$2"
    return
  fi
  mlc_make=0
  if [ -x "$mlc_above" ] && [ -w "$mlc_above" ]; then mlc_make=1; fi
  mlc_field "path $1 $mlc_kind $mlc_read$mlc_write$mlc_make" "$mlc_real" "$mlc_above"
}

# Nothing is there, or nothing that can be looked at. Where it is not plain which, what the system says tells.
mlc_absent() {
  mlc_below=$2 mlc_read=1 mlc_make=0
  mlc_parent "$2"
  while [ ! -d "$mlc_above" ] && [ "$mlc_above" != / ]; do mlc_below=$mlc_above; mlc_parent "$mlc_below"; done
  if [ -L "$mlc_below" ] || [ ! -x "$mlc_above" ] || [ "${#2}" -gt 255 ]; then
    case $(LC_ALL=C ls -dL -- "$2" 2>&1 >/dev/null) in
      *"No such file or directory"|*"Not a directory"|'') ;;
      *) mlc_read=0;;
    esac
  fi
  if [ "$mlc_read" = 1 ] && [ ! -L "$mlc_below" ] && [ ! -e "$mlc_below" ] && [ -x "$mlc_above" ] && [ -w "$mlc_above" ]; then
    mlc_make=1
  fi
  mlc_field "path $1 absent $mlc_read$mlc_make$mlc_make" "$mlc_real" "$mlc_above"
}

# A directory of our own for what commands say, in memory where there is such a place: a full disk is looked at, too.
mlc_begin() {
  for mlc_room in "${XDG_RUNTIME_DIR:-}" /dev/shm "${TMPDIR:-}" /tmp "${HOME:-}"; do
    case $mlc_room in /*) ;; *) continue;; esac
    mlc_room=$mlc_room/mlcube-$mlc_nonce
    mkdir -m 700 "$mlc_room" 2>/dev/null || continue
    { printf x > "$mlc_room/x"; } 2>/dev/null && [ -s "$mlc_room/x" ] && return
    rm -rf "$mlc_room"
  done
  mlc_room=
  return 1
}
mlc_end() { if [ -n "$mlc_room" ]; then rm -rf "$mlc_room"; fi; }

mlc_size() { mlc_bytes=$(wc -c < "$1" 2>/dev/null) || mlc_bytes=0; mlc_bytes=$((mlc_bytes)); }

mlc_text() {
  if [ -n "$mlc_room" ] && [ -f "$2" ] && [ -r "$2" ] \
      && { head -c 1048577 < "$2" > "$mlc_room/text"; } 2>/dev/null && mlc_size "$mlc_room/text" \
      && [ "$mlc_bytes" -le 1048576 ]; then
    mlc_field "text $1 $mlc_bytes"
    cat "$mlc_room/text"
  else
    mlc_field "text $1 none"
  fi
}

# Become this command, which is given up after mlc_seconds. 127 and 126: as shells say it. The user's PATH counts.
mlc_run() {
  case $1 in
    */*) [ -e "$1" ] || mlc_refuse 127 "$1" "it does not exist"
         [ -f "$1" ] && [ -x "$1" ] || mlc_refuse 126 "$1" "it is not executable for you";;
    *) mlc_find "$1" || mlc_refuse 127 "$1" "there is no such program on PATH";;
  esac
  if [ -n "$mlc_timeout" ]; then exec "$mlc_timeout" -s KILL "$mlc_seconds" "$@"; else exec "$@"; fi
}
mlc_refuse() { printf 'cannot start %s: %s' "$2" "$3" >&2; exit "$1"; }
mlc_enter() { cd -- "$1" 2>/dev/null || mlc_refuse 127 "$2" "its working directory $1 does not exist"; }

mlc_said() {
  mlc_late=0
  if [ "$2" = 137 ] && [ "$(($(date +%s) - mlc_since))" -ge "$mlc_seconds" ]; then mlc_late=1; fi
  mlc_size "$mlc_room/$1.out"; mlc_out=$mlc_bytes
  mlc_size "$mlc_room/$1.err"; mlc_err=$mlc_bytes
  mlc_field "probe $1 $2 $mlc_late $mlc_out $mlc_err"
  head -c "$mlc_out" < "$mlc_room/$1.out"  # what the command left behind in the background may write on
  head -c "$mlc_err" < "$mlc_room/$1.err"
  rm -f "$mlc_room/$1.out" "$mlc_room/$1.err" "$mlc_room/$1.in"
}

mlc_sha256() {
  if [ -n "$mlc_sum" ]; then "$mlc_sum"
  elif mlc_find shasum; then "$mlc_file" -a 256
  elif mlc_find openssl; then "$mlc_file" dgst -sha256 -r
  fi 2>/dev/null
}
mlc_signs() { mlc_state=$(LC_ALL=C stat -L -c '%d %i %s %y %z %Y %Z' -- "$mlc_real" 2>/dev/null) || mlc_state=; }

# A big file is read once: its digest is kept in the cache under what makes out the file, as mlcube itself does it.
mlc_digest() {
  mlc_hash= mlc_kept=
  if [ -f "$2" ] && [ -r "$2" ]; then
    mlc_resolve "$2"
    mlc_signs
    mlc_before=$mlc_state
    mlc_bytes=${mlc_state#* * } mlc_bytes=${mlc_bytes%% *}
    if [ "${mlc_bytes:-0}" -ge 10000000 ] && mlc_find_cache; then
      mlc_key=$(printf '%s\n' "$mlc_real" "$mlc_state" | mlc_sha256 | head -c 32)
      mlc_kept=$mlc_cache/digests/$mlc_key
      if [ -s "$mlc_kept" ]; then mlc_hash=$(head -c 71 < "$mlc_kept"); touch "$mlc_kept"; fi 2>/dev/null
      case $mlc_hash in sha256:*) ;; *) mlc_hash=;; esac
    fi
    if [ -z "$mlc_hash" ]; then
      mlc_hash=$(mlc_sha256 < "$2" | head -c 64)
      mlc_hash=${mlc_hash:+sha256:$mlc_hash}
      mlc_signs
      if [ "$mlc_state" != "$mlc_before" ]; then mlc_hash=; fi
      mlc_keep 2>/dev/null
    fi
  fi
  mlc_field "digest $1" "$mlc_hash"
}
# What changed just now may change again without a sign.
mlc_keep() {
  [ "${#mlc_hash}" = 71 ] && [ -n "$mlc_kept" ] || return
  mlc_now=$(($(date +%s) - 2)) mlc_changed=${mlc_state##* } mlc_state=${mlc_state% *}
  [ "$mlc_changed" -lt "$mlc_now" ] && [ "${mlc_state##* }" -lt "$mlc_now" ] || return
  (umask 077; mkdir -p "$mlc_cache/digests"; printf '%s\n' "$mlc_hash" > "$mlc_kept.$$.tmp") \
    && mv -f "$mlc_kept.$$.tmp" "$mlc_kept"
}

# mlc_cache: mlcube's cache directory here, made where it is absent (the rules are those of mlcube_cli/cache).
mlc_find_cache() {
  mlc_cache= mlc_base=${XDG_CACHE_HOME:-}
  case ${MLCUBE_HOME:-} in
    /*) mlc_place=$MLCUBE_HOME;;
    *) case ${HOME:-} in
         /*) case $mlc_base in /*) ;; *) mlc_base=${HOME%/}/.cache;; esac
             case $mlc_base/ in "${HOME%/}"/*) [ -O "$HOME" ] || return 1;; esac;;
         *) case $mlc_base in /*) ;; *) return 1;; esac;;
       esac
       mlc_place=${mlc_base%/}/mlcube;;
  esac
  [ -d "$mlc_place" ] || (umask 077; mkdir -p "$mlc_place") 2>/dev/null
  [ -d "$mlc_place" ] && [ -O "$mlc_place" ] && [ -r "$mlc_place" ] && [ -w "$mlc_place" ] && [ -x "$mlc_place" ] || return 1
  case $(LC_ALL=C ls -ldL -- "$mlc_place") in ?????w*|????????w*) return 1;; esac
  mlc_cache=$mlc_place
}

mlc_value() { mlc_field "value $1" "$2"; }

# What is always to be known of a machine.
mlc_machine() {
  mlc_value time "$(date +%s)"
  mlc_value ids "$(id -u) $(id -g)"
  mlc_value uname "$(uname -nm)"
  mlc_value home "$mlc_home"
  mlc_word_of pwd -P
  mlc_value cwd "$mlc_word"
  mlc_find_cache
  mlc_value cache "$mlc_cache"
  mlc_field environment
  (mlc_plain; env -0 2>/dev/null || cat /proc/self/environ 2>/dev/null)
  printf '\0'
  if mlc_find rsync; then mlc_value rsync "$("$mlc_file" --version 2>/dev/null | head -n 1)"; fi
}

# The home directory where the variable does not say: of a uid without a name, as containers have, it is the root.
mlc_go_home() {
  mlc_home=${HOME:-}
  case $mlc_home in
    /*) ;;
    *) mlc_home=$(awk -F: -v uid="$(id -u)" '$3 == uid { print $6; exit }' /etc/passwd 2>/dev/null)
       case $mlc_home in /*) ;; *) mlc_home=/;; esac;;
  esac
  cd -- "$mlc_home" 2>/dev/null || cd /
}

mlc_newline='
'
mlc_room= mlc_had_locale=${LC_ALL+x} mlc_locale=${LC_ALL-}
LC_ALL=C
mlc_find timeout; mlc_timeout=$mlc_file
mlc_find sha256sum; mlc_sum=$mlc_file
trap mlc_end EXIT
trap 'exit 1' HUP INT TERM PIPE
"""
