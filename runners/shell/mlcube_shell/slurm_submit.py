"""Handing jobs over: a script that writes their files and calls sbatch, so that all are queued or nothing is left."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.batch import number_of
from mlcube_cli.command import quote
from mlcube_cli.place import answer_line
from mlcube_cli.relocation import is_at_or_below
from mlcube_cli.supervision.program import FUNCTIONS
from mlcube_shell.slurm_batch import MARK, demands_of, overriding, ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlcube_cli.batch import Batch, Part

JOBS = "jobs"  # in the batch's directory: the ids that are answered, a line each
_TOGETHER = 200  # directories that one mkdir makes

# mlc_directory: the batch's. mlc_write and mlc_queue_all are of the batch; mlc_ids: what was queued so far.
_SUBMIT = r"""
mlc_fail() {  # WHY: nothing of it stays
  [ -z "$mlc_ids" ] || scancel $mlc_ids >/dev/null 2>&1
  rm -rf -- "$mlc_directory"
  mlc_take_back 2>/dev/null
  mlc_answer="failed $1"
  return 1
}

# FILE WORD...: one call of sbatch; the job's number is in mlc_id.
mlc_sbatch() {
  mlc_file=$1
  shift
  mlc_said=$(umask "$mlc_umask"; cd -- "${mlc_file%/*}" && sbatch --parsable "$@" 2>"$mlc_directory/sbatch.log") || {
    mlc_fail "$(cat "$mlc_directory/sbatch.log")"
    return 1
  }
  mlc_id=${mlc_said##*"$mlc_newline"}
  mlc_id=${mlc_id%%;*}
  case $mlc_id in
    ''|*[!0-9]*) mlc_fail "sbatch did not name a job: $mlc_said$(cat "$mlc_directory/sbatch.log")"; return 1;;
  esac
  mlc_ids="$mlc_ids$mlc_id "
}
mlc_members() { for mlc_one in "$@"; do mlc_jobs="$mlc_jobs ${mlc_id}_$mlc_one"; done; }
mlc_newline='
'

mlc_submit() {
  unset OVERRIDING
  mlc_ids='' mlc_jobs=''
  mlc_umask=$(umask)
  umask 077
  command -v sbatch >/dev/null 2>&1 || { mlc_answer='failed there is no sbatch command'; return 1; }
  [ -d "${mlc_directory%/*}" ] || mlc_error=$(mkdir -p -- "${mlc_directory%/*}" 2>&1) ||
    { mlc_answer="failed $mlc_error"; return 1; }
  if [ -e "$mlc_directory" ] || [ -L "$mlc_directory" ]; then mlc_answer=exists; return 1; fi
  mlc_error=$(mkdir -- "$mlc_directory" 2>&1) || { mlc_answer="failed $mlc_error"; return 1; }
  mlc_error=$(mlc_write 2>&1) || { mlc_fail "$mlc_error"; return 1; }
  mlc_queue_all || return
  mlc_answer="submitted$mlc_jobs"
}
"""


# Where a person carries the script out: what becomes of it is said, and its exit code tells.
_PLAINLY = """\
case $mlc_answer in
  submitted*) printf '%s\\n' "$mlc_answer";;
  *) printf '%s\\n' "not queued: ${mlc_answer#failed }" >&2; exit 4;;
esac
"""


def submit(batch: Batch, nonce: str, plain: bool = False) -> str:
    """The script that hands the batch over. It answers `submitted ID ID ...`, an id for each part in order (`ARRAY_NUMBER` for
    a member); `exists`; or `failed WHY`, and then nothing is queued and nothing of it is left.

    Several jobs wait for each other; the first is held back until all are queued. The members of an array are numbered by
    the names of their directories, from 1 on and rising. `plain`: for a person who carries out the script by hand.
    """
    queue = (*_queue_chain(batch.chain, bool(batch.array)), *(_queue_array(batch) if batch.array else ()), *_noted(),
             *(_released() if len(batch.chain) + bool(batch.array) > 1 and not _is_held(batch) else ()))
    unset = " ".join(overriding(line for text in batch.files for line in demands_of(text)))
    begin = () if plain else (f"printf '%s\\n' '{answer_line(nonce)}'",)
    return "\n".join((*begin, f"mlc_directory={quote(batch.directory)}",
                      _SUBMIT.replace("OVERRIDING", unset), "mlc_write() {", *_writing(batch, nonce), "}",
                      "mlc_take_back() {", *_taking_back(batch), "  :", "}",
                      "mlc_queue_all() {", *(f"  {line}" for line in queue), "}", "mlc_submit",
                      _PLAINLY if plain else "printf '%s\\n' \"$mlc_answer\"\n"))


def chunks(numbers: Iterable[int], largest: int | None) -> Iterator[tuple[int, list[int]]]:
    """Members by arrays of at most `largest` numbers, each from 1 on: what is taken off a number there, and the members."""
    found: dict[int, list[int]] = {}
    for number in numbers:
        found.setdefault((number - 1) // largest * largest if largest else 0, []).append(number)
    yield from sorted(found.items())


def _writing(batch: Batch, nonce: str) -> Iterator[str]:
    """The lines that make directories and files."""
    places = [part.directory for part in batch.parts]
    places += [place for part in batch.parts for _, place in part.runs]
    for start in range(0, len(places), _TOGETHER):
        yield f"  mkdir -p -- {' '.join(quote(place) for place in places[start:start + _TOGETHER])} || return"
    yield _file(batch.directory, MARK, f"{MARK}\n")
    shared = ""
    if batch.array:
        shared = f". {quote(os.path.join(batch.directory, 'functions'))}\n"
        yield _file(batch.directory, "functions", FUNCTIONS)
        yield _file(batch.directory, "program", batch.array)
    whole, known = batch.chain, ""
    for part in batch.parts:
        text = part.text if part in whole else part.text.replace(FUNCTIONS, shared, 1)
        hidden = "".join(f"{name}={quote(value)}\n" for name, value in part.secrets.items())
        for name, content in ((MARK, f"{MARK}\n"), ("program", text), ("prepare.log", ""), ("said", "")):
            readable = name == "program" and part in whole and content.endswith("\n")
            yield _document(part.directory, name, content, nonce) if readable else _file(part.directory, name, content)
        if hidden:
            yield from () if hidden == known else _hidden(hidden, nonce)
            yield f"  printf '%s\\n' \"$mlc_hidden\" >{quote(os.path.join(part.directory, 'secrets'))} || return"
            known = hidden


def _taking_back(batch: Batch) -> Iterator[str]:
    """The lines that remove the tasks' directories that are elsewhere, as far as they are still empty."""
    for part in batch.parts:
        for _, place in part.runs:
            if not is_at_or_below(place, batch.directory):
                yield f"  rmdir -- {quote(place)}"


def _document(directory: str, name: str, content: str, nonce: str) -> str:
    """A file whose text stands in the script as it is, for whoever reads that (`--dry-run`)."""
    return f"  cat >{quote(os.path.join(directory, name))} <<'mlc_end_{nonce}' || return\n{content}mlc_end_{nonce}"


def _hidden(text: str, nonce: str) -> Iterator[str]:
    """Secrets, in a variable: quoted once, as what stands for them is filled in (`--dry-run`)."""
    yield f"  mlc_secrets() {{\ncat <<'mlc_end_{nonce}'\n{text}mlc_end_{nonce}\n}}"
    yield "  mlc_hidden=$(mlc_secrets)"


def _file(directory: str, name: str, content: str) -> str:
    """The same without a process: `printf` is the shell's own, and an array may have a thousand members."""
    return f"  printf %s {quote(content)} >{quote(os.path.join(directory, name))} || return"


def _queue_chain(parts: Sequence[Part], more: bool) -> Iterator[str]:
    """One call of sbatch a part; each begins when the one before has succeeded. `more`: something waits for the last one."""
    for number, part in enumerate(parts):
        words = ["--hold"] if (len(parts) > 1 or more) and number == 0 else []
        words += _after('afterok:"$mlc_id"') if number else []
        program = quote(os.path.join(part.directory, "program"))
        yield f'mlc_sbatch {program} {" ".join((*words, program))} || return'
        yield 'mlc_jobs="$mlc_jobs $mlc_id"'


def _queue_array(batch: Batch) -> Iterator[str]:
    """One call of sbatch for as many members as one array may have. With a limit, an array waits for the one before."""
    program = quote(os.path.join(batch.directory, "program"))
    groups = list(chunks(map(number_of, batch.members), batch.largest))
    at_once = f"%{batch.limit}" if batch.limit else ""
    for number, (offset, members) in enumerate(groups):
        words = []
        if len(groups) > 1 or offset:
            words.append(f"--array={ranges(member - offset for member in members)}{at_once}")
        if offset:
            words.append(f"--output={quote(_patterned(batch.directory) + '/slurm-%A_%a.log')}")
        words += _after(*(['afterok:"${mlc_ids%% *}"'] if batch.chain else []),
                        *(['afterany:"$mlc_id"'] if number and batch.limit else []))
        words += [program, *([str(offset)] if offset else [])]
        yield f"mlc_sbatch {program} {' '.join(words)} || return"
        yield f"mlc_members {' '.join(str(member - offset) for member in members)}"


def _after(*conditions: str) -> list[str]:
    """The words that let a job begin when these hold; one that never can is ended (RULINGS 41: else it pends for ever)."""
    ended = ["--kill-on-invalid-dep=yes"] if any(condition.startswith("afterok:") for condition in conditions) else []
    return [f"--dependency={','.join(conditions)}", *ended] if conditions else []


def _noted() -> Iterator[str]:
    yield f'printf "%s\\n" $mlc_jobs >"$mlc_directory/{JOBS}" ||'
    yield '  { mlc_fail "$mlc_directory cannot be written to"; return 1; }'


def _is_held(batch: Batch) -> bool:
    """Does the user want to release the jobs himself (`--hold` in sbatch_args)?"""
    return any(line == "#SBATCH --hold" for text in batch.files for line in demands_of(text))


def _released() -> Iterator[str]:
    """The first job may begin."""
    yield 'scontrol release "${mlc_ids%% *}" 2>"$mlc_directory/sbatch.log" || '
    yield '  { mlc_fail "$(cat "$mlc_directory/sbatch.log")"; return 1; }'


def _patterned(path: str) -> str:
    return path.replace("%", "%%")
