"""What is asked of a supervised run where it runs: scripts for `Place.command`, and the readers of their answers. Pure.

`nonce`: letters and digits, new for each request; the answer begins behind a line with it (place.answer_line).
"""

from __future__ import annotations

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.command import quote
from mlcube_cli.place import answer_line
from mlcube_cli.supervision.program import Layout
from mlcube_cli.supervision.shared import CANCEL, COMMON, FOLLOW, FOLLOW_QUEUE, PLAIN, REMOVE, STATES, STATES_QUEUE
from mlcube_cli.supervision.state import parse_report as parse_report
from mlcube_cli.supervision.state import parse_states as parse_states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_MARK = "mlcube-run"

_START = r"""
mlc_start_it() {
  mlc_umask=$(umask)
  umask 077
  [ -d "${mlc_directory%/*}" ] || mlc_error=$(mkdir -p -- "${mlc_directory%/*}" 2>&1) ||
    { mlc_answer="failed $mlc_error"; return 1; }
  if [ -e "$mlc_directory" ] || [ -L "$mlc_directory" ]; then mlc_answer=exists; return 1; fi
  mlc_error=$(mkdir -- "$mlc_directory" 2>&1) || { mlc_answer="failed $mlc_error"; return 1; }
  mlc_error=$(mlc_write 2>&1) || { mlc_answer="failed $mlc_error"; rm -rf -- "$mlc_directory"; return 1; }
  set -- "$mlc_umask" "$mlc_host" "$mlc_boot" "$mlc_space"
  if command -v setsid >/dev/null 2>&1; then
    setsid sh "$mlc_directory/program" "$@" </dev/null >/dev/null 2>"$mlc_directory/supervisor.log" &
  else
    (trap '' HUP; exec sh "$mlc_directory/program" "$@" </dev/null >/dev/null 2>"$mlc_directory/supervisor.log") &
  fi
  mlc_tries=0
  until [ -s "$mlc_directory/state" ]; do
    mlc_tries=$((mlc_tries + 1))
    if [ "$mlc_tries" -gt 500 ]; then mlc_answer="failed $(head -c 500 "$mlc_directory/supervisor.log")"; return 1; fi
    mlc_sleep 0.01
  done
  mlc_answer=started
}
"""


def start(layout: Layout, text: str, secrets: Mapping[str, str], nonce: str) -> str:
    """Make the command's directory and start its supervisor, which outlives us. Answers `started`, `exists`, or `failed WHY`.

    `text`: program.program's; `secrets`: program.secrets_of's.
    """
    return "\n".join((_begin(nonce), COMMON, *_starting(layout, text, secrets, nonce), "mlc_start_it",
                      'printf "%s\\n" "$mlc_answer"', ""))


def start_and_follow(layout: Layout, text: str, secrets: Mapping[str, str], nonce: str, plain: bool = False) -> str:
    """`start`, its answer as the frame `a`, and then, where it was started, what `follow` sends: one round trip.

    `plain`: for a person who carries out the script by hand: what the tasks print instead of frames, and the exit code.
    """
    following = _following(layout.directory, layout.tasks.items(), {})
    return "\n".join(("" if plain else _begin(nonce), COMMON, *_starting(layout, text, secrets, nonce), FOLLOW,
                      *((PLAIN,) if plain else ()), *following, "mlc_start_it", "mlc_started_well=$?",
                      'mlc_text_frame a "$mlc_answer"', f"[ $mlc_started_well -eq 0 ] || exit {4 if plain else 0}",
                      "mlc_follow", *(("mlc_leave",) if plain else ()), ""))


def follow(directory: str, tasks: Iterable[tuple[str, str]], offsets: Mapping[str, int], nonce: str,
           until_end: bool = True, queue: str = "") -> str:
    """Send what the command and its tasks have said from `offsets` (Frames.offsets) on, as frames, until its end.

    `tasks`: run ids with the tasks' directories. Without `until_end`, what there is now. `queue`: of a batch job, the
    functions of Scheduler.queue_functions: then frames `q` hold what its scheduler says, and a frame `Q` before an end that
    may be the scheduler's doing.
    """
    asking = (FOLLOW_QUEUE, queue) if queue else ()
    return "\n".join((_begin(nonce), COMMON, FOLLOW, *asking, *_following(directory, tasks, offsets), "mlc_identify",
                      "mlc_follow" if until_end else "mlc_follow_once", ""))


def states(directories: Mapping[str, Iterable[tuple[str, str]]], nonce: str, queue: str = "") -> str:
    """Say how these commands and their tasks are; `parse_states` reads it. Command directory -> (run id, directory).

    `queue`: the functions of Scheduler.queue_functions for the batch jobs among them; `parse_report` finds their answer.
    """
    calls = []
    for directory, tasks in directories.items():
        calls.append(f"mlc_state_of {quote(directory)}{' 1' if directory.isascii() else ''}")
        calls += [f"mlc_state_of_task {quote(run_id)} {quote(place)}" for run_id, place in tasks]
    asking = (STATES_QUEUE, queue) if queue else ()
    calls += ["mlc_state_of_queue"] if queue else []
    return "\n".join((_begin(nonce), COMMON, STATES, *asking, "mlc_identify", *calls, ""))


def cancel(directory: str, hard: bool, nonce: str, signal: int = 15) -> str:
    """End the command: TERM, the grace period, KILL; `hard`, or a second request: at once. It then says 128 + `signal`.

    Answers `sent`; `ended` when it was over; `foreign` when another machine supervises it, where nothing is done; `gone`
    when its supervisor is: then what that had left running, processes and container, is ended here and now.
    """
    return "\n".join((_begin(nonce), COMMON, CANCEL, "mlc_identify",
                      f"mlc_cancel {quote(directory)} {signal} {'hard' if hard else 'soft'} {nonce}", ""))


def remove(directories: Sequence[str], nonce: str, plain: bool = False) -> str:
    """Remove the command's directory, when it bears our mark and nobody works there (RULINGS 34); then those beside it.

    Answers of the first `removed`, `absent`, `unmarked`, `busy`, `foreign` (another machine's), or `left` when something would
    not go. `plain`: for a person who carries out the script by hand: without an answer.
    """
    first, *beside = directories
    lines = [f"mlc_remove {quote(first)}"]
    if beside:
        lines = [f"mlc_removed=$(mlc_remove {quote(first)})", "case $mlc_removed in removed|absent)",
                 *(f"  mlc_remove {quote(place)} >/dev/null" for place in beside), "esac", "printf '%s\\n' \"$mlc_removed\""]
    return "\n".join(("exec >/dev/null" if plain else _begin(nonce), COMMON, REMOVE, "mlc_identify", *lines, ""))


def forget_secrets(directories: Iterable[str]) -> str:
    """Remove what these commands were to read their secrets from, if it is still there. No answer."""
    return "".join(f"rm -f -- {quote(directory + '/secrets')} 2>/dev/null\n" for directory in directories)


_NOTED = r"""
mlc_left=WAIT
while [ -d "$mlc_directory" ] && [ ! -f "$mlc_directory/jobs" ] && [ "$mlc_left" -gt 0 ]; do
  mlc_left=$((mlc_left - 1))
  sleep 1
done
if [ -f "$mlc_directory/jobs" ]; then
  printf submitted
  while read -r mlc_job; do printf ' %s' "$mlc_job"; done <"$mlc_directory/jobs"
elif [ -d "$mlc_directory" ] && [ -z "$(find "$mlc_directory" -prune -mmin +10)" ]; then printf 'under way'
else printf absent
fi
"""


def jobs_noted(directory: str, nonce: str, wait: int = 0) -> str:
    """Say which jobs were handed over for the command, as Scheduler.submit has noted it.

    Answers `submitted ID ID ...` as that does, `absent` where nothing was handed over, and `under way`, where that seems to be
    done just now; it waits at most so many seconds for its end.
    """
    return f"{_begin(nonce)}\nmlc_directory={quote(directory)}{_NOTED.replace('WAIT', str(wait))}"


def answer_of(text: str, nonce: str) -> str | None:
    """What a script answered in words, without what a login shell printed before; None: there is no answer."""
    _, found, answer = text.partition(answer_line(nonce) + "\n")
    return answer.strip("\n") if found else None


def _begin(nonce: str) -> str:
    return f"printf '%s\\n' '{answer_line(nonce)}'"


def _starting(layout: Layout, text: str, secrets: Mapping[str, str], nonce: str) -> Iterable[str]:
    """The functions that write the files of the run. Texts are here-documents: no shell makes words of a command of those."""
    yield f"mlc_directory={quote(layout.directory)}"
    yield _START
    yield "mlc_write() {"
    if layout.tasks:
        yield f'  mkdir -p -- {" ".join(quote(place) for place in layout.tasks.values())} || return'
    yield f'  : >"$mlc_directory/prepare.log" && : >"$mlc_directory/said" && echo {_MARK} >"$mlc_directory/{_MARK}" || return'
    hidden = "".join(f"{name}={quote(value)}\n" for name, value in secrets.items())
    for name, content in (("program", text), ("secrets", hidden)):
        if content:
            yield f"  cat >\"$mlc_directory/{name}\" <<'mlc_end_{nonce}' || return\n{content}mlc_end_{nonce}"
    yield "}"
    yield "mlc_identify"


def _following(directory: str, tasks: Iterable[tuple[str, str]], offsets: Mapping[str, int]) -> Iterable[str]:
    calls = []
    known = {"mlc_said": offsets.get("t", 0), "mlc_prepared": offsets.get("p", 0)}
    for number, (run_id, place) in enumerate(tasks, 1):
        known.update({f"mlc_out_{number}": offsets.get(f"o:{run_id}", 0), f"mlc_err_{number}": offsets.get(f"e:{run_id}", 0)})
        calls.append(f"  mlc_follow_task {quote(run_id)} {quote(place)}")
    empty = " ".join(f"mlc_state_{number}=''" for number in range(1, len(calls) + 1))
    return (f"mlc_directory={quote(directory)} {' '.join(f'{name}={value}' for name, value in known.items())} {empty}",
            "mlc_each_task() {", *calls, "  :", "}")
