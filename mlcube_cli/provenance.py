"""What a record tells of where a run came from: definition, code, git commit, engine versions, GPUs. Asks this machine.

Nothing here may fail a run, or keep it waiting: what cannot be learnt in time is left out of the record.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from mlcube_cli.command import Command, Variable
from mlcube_cli.errors import MLCubeError
from mlcube_cli.executables import find_executable
from mlcube_cli.facts import Observation
from mlcube_cli.measures import OURS, Measure, Want, keep_manifest, measure
from mlcube_cli.observe import file_text
from mlcube_cli.process import ask

Ask = Callable[[Command, float], Observation]  # process.ask: the command, and the seconds that it has

PATIENCE = 3.0  # seconds that a finished run waits for what the machine's tools still have to say
_LAST_WORD = 0.5  # seconds for one who was told to stop
_SHORT = 1.0  # seconds: of a run that takes no longer, nothing is kept before its end
_ANSWER = 10.0  # seconds for a tool
_MOST_CODE = 20_000  # entries of a cube's directory, above which its code is not hashed
_NO_CODE = frozenset({OURS, ".git", ".hg", ".svn", "__pycache__", ".venv", "venv", "node_modules", ".mypy_cache",
                      ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"})
_IMAGES = (".sif", ".simg", ".img", ".sqsh")


# --- the cube ------------------------------------------------------------------------------------------------------


def definition_data(files: Iterable[str], root: str) -> dict[str, object]:
    """The definition files that a run used (absolute paths), each with its sha256, and one sha256 over all of them.

    Names are relative to the cube where they lie below it, so that a cube that was moved has the same digest.
    """
    listed: list[dict[str, object]] = []
    digest = hashlib.sha256()
    for path in dict.fromkeys(os.path.normpath(file) for file in files):
        name = os.path.relpath(path, root) if path.startswith(os.path.join(root, "")) else path
        text = file_text(path)
        found = None if text is None else f"sha256:{hashlib.sha256(text).hexdigest()}"
        listed.append({"path": name, "sha256": found})
        digest.update(os.fsencode(f"{name}\0{found}\0"))
    return {"sha256": f"sha256:{digest.hexdigest()}", "files": listed}


def code_data(root: str, workspace: str, hashing: str, give_up: Callable[[], bool] = lambda: False) -> dict[str, object]:
    """The cube's definition, build files and code, for a record. The manifest is kept in the workspace."""
    found = measure_code(root, workspace, hashing, give_up)
    keep_manifest(workspace, found)
    return {"path": root, **found.as_data()}


def measure_code(root: str, workspace: str, hashing: str, give_up: Callable[[], bool] = lambda: False) -> Measure:
    """The cube's directory without its workspace, images, caches and histories. More than 20,000 entries are not hashed."""
    return measure(root, Want(hashing, give_up=give_up, skipped=_NO_CODE, most=_MOST_CODE, leave_out=frozenset(
        {workspace, os.path.join(root, "workspace"), *_image_files(root)})))


def _image_files(root: str) -> list[str]:
    try:
        with os.scandir(root) as entries:
            return [entry.path for entry in entries if entry.name.endswith(_IMAGES)]
    except OSError:
        return []


# --- git -----------------------------------------------------------------------------------------------------------


def git_data(root: str, workspace: str, environment: Mapping[str, str],
             give_up: Callable[[], bool] | None = None) -> dict[str, object] | None:
    """The commit of the repository that the cube lies in, and whether the cube (its workspace aside) differs from it.

    None without a repository, without git, or where git does not answer. A stranger's repository must not start anything
    of its own (RULINGS 45): no hooks, no fsmonitor, no fetching; where its configuration names filters or includes other
    files, git is not asked about differences, and `dirty` is None.
    """
    configuration = _find_repository(root)
    if configuration is None or find_executable("git", environment) is None:
        return None
    plain = not re.search(rb"\[\s*(filter|include|includeif)\b", configuration, re.IGNORECASE)  # anywhere in a line
    said = ask(git_command(root, workspace, plain), _ANSWER, give_up=give_up)
    return parse_git(said.stdout, plain) if said.exit_code == 0 else None


def git_command(root: str, workspace: str, plain: bool) -> Command:
    """One question to git. `plain`: its answer about differences needs nothing that the repository brings along."""
    words = ["git", "-C", root, "--no-optional-locks"]
    for setting in ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.untrackedCache=false", "submodule.recurse=false"):
        words += ["-c", setting]
    silent = (Variable("GIT_TERMINAL_PROMPT", "0"), Variable("GIT_NO_LAZY_FETCH", "1"), Variable("GIT_ALLOW_PROTOCOL", "none"),
              *(Variable(name, None) for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF")))
    if not plain:
        return Command((*words, "rev-parse", "HEAD"), silent)
    words += ["status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--ignore-submodules=all", "--", "."]
    inside = os.path.relpath(workspace, root)
    left_out = dict.fromkeys(("workspace", *(() if inside.startswith("..") or inside == "." else (inside,))))
    return Command((*words, *(f":(exclude,literal){name}" for name in left_out)), silent)


def parse_git(text: str, plain: bool) -> dict[str, object] | None:
    """What git said: `status --porcelain=v2 --branch` (git-status(1)), or, not `plain`, `rev-parse`."""
    lines = text.splitlines()
    if not plain:
        return {"commit": lines[0].strip(), "branch": None, "dirty": None} if lines else None
    heads = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    commit, branch = heads.get("branch.oid", ""), heads.get("branch.head", "")
    if not commit:
        return None
    return {"commit": commit if commit != "(initial)" else None, "branch": branch if branch != "(detached)" else None,
            "dirty": any(not line.startswith("#") for line in lines)}


def _find_repository(root: str) -> bytes | None:
    """The configuration of the repository that the directory lies in; None where there is no repository."""
    directory = root
    while True:
        place = os.path.join(directory, ".git")
        if os.path.lexists(place):
            break
        if directory == os.path.dirname(directory):
            return None
        directory = os.path.dirname(directory)
    if os.path.isfile(place):  # a worktree, or a submodule
        text = (file_text(place) or b"").partition(b"gitdir:")[2].strip()
        place = os.path.join(directory, os.fsdecode(text))
    common = os.fsdecode((file_text(os.path.join(place, "commondir")) or b".").strip())
    files = (os.path.join(place, common, "config"), os.path.join(place, "config.worktree"))
    return b"\n".join(file_text(path) or b"" for path in files)


# --- engines and devices -------------------------------------------------------------------------------------------

NVIDIA = Command(("nvidia-smi", "--query-gpu=index,name,uuid,memory.total,driver_version", "--format=csv,noheader,nounits"))
AMD = Command(("rocm-smi", "--showproductname", "--showuniqueid", "--showdriverversion", "--json"))


def engine_data(questions: Iterable[tuple[str, Command]], ask: Ask = ask) -> list[dict[str, object]]:
    """The versions of what runs the task: of each (name, command) the first version that its output names.

    `ask`: how the machine that runs it is asked.
    """
    found: list[dict[str, object]] = []
    for name, command in questions:
        said = ask(command, _ANSWER)
        version = parse_version(said.stdout or said.stderr)
        if said.exit_code == 0 and version:
            found.append({"name": name, "version": version})
    return found


def parse_version(text: str) -> str:
    """The first word of the text that looks like a version; "" for none."""
    match = re.search(r"\b\d+\.\d+[\w.+~-]*", text)
    return match[0] if match else ""


def gpu_data(has: Callable[[str], object], ask: Ask = ask) -> dict[str, object] | None:
    """The GPUs of a machine and their driver, as its tools tell them; None where there are none.

    `has`: is there a tool of this name? `ask`: how the machine is asked.
    """
    if has("nvidia-smi"):
        said = ask(NVIDIA, _ANSWER)
        return parse_nvidia(said.stdout) if said.exit_code == 0 else None
    if has("rocm-smi"):
        said = ask(AMD, _ANSWER)
        return parse_amd(said.stdout) if said.exit_code == 0 else None
    return None


def parse_nvidia(text: str) -> dict[str, object] | None:
    """What the question NVIDIA is answered: a line a device."""
    rows = [[word.strip() for word in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == 5]
    if not rows:
        return None
    return {"vendor": "nvidia", "driver": rows[0][4], "devices": [
        {"index": index, "name": name, "id": uuid, "memory_mib": int(memory) if memory.isdigit() else None}
        for index, name, uuid, memory, _ in rows]}


def parse_amd(text: str) -> dict[str, object] | None:
    """What the question AMD is answered: a JSON map with an entry a card, and one of the system."""
    import json

    try:
        data = json.loads(text)
    except ValueError:
        return None
    cards = {name: card for name, card in data.items() if name.startswith("card") and isinstance(card, dict)} \
        if isinstance(data, dict) else {}
    if not cards:
        return None
    system = data.get("system")
    return {"vendor": "amd", "driver": str(system.get("Driver version", "")) if isinstance(system, dict) else "", "devices": [
        {"index": name[len("card"):], "name": str(card.get("Card Series") or card.get("Card series") or ""),
         "id": str(card.get("Unique ID", "")), "memory_mib": None} for name, card in sorted(cards.items())]}


# --- while the task runs -------------------------------------------------------------------------------------------


class Gathering:
    """Learns things while the task runs, one after the other, in the background. Each is a name and a function that returns
    JSON data and may raise what a machine does; a function is given `give_up`, to be asked now and then.

    `keep` is given all of it while the run goes on, since whoever kills us leaves only what is written; never for a run that
    takes less than a second."""

    def __init__(self, wanted: Sequence[tuple[str, Callable[[Callable[[], bool]], object]]],
                 keep: Callable[[Mapping[str, object]], object] = lambda found: None) -> None:
        self._wanted, self._keep = wanted, keep
        self._found: dict[str, object] = {}
        self._learnt, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._gather, name="mlcube-record", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def results(self, hurry: Callable[[], bool], patience: float = float("inf")) -> Mapping[str, object]:
        """What was learnt, when all of it is; what there is after `patience` seconds, or soon after `hurry` says so."""
        until = time.monotonic() + patience
        while not self._learnt.wait(0.05) and time.monotonic() < until and not hurry():
            pass
        self._stopped.set()
        self._thread.join(_LAST_WORD)
        return dict(self._found)

    def _gather(self) -> None:
        try:
            self._learn()
        finally:
            self._learnt.set()
        if not self._stopped.wait(_SHORT):
            self._keep(dict(self._found))

    def _learn(self) -> None:
        for name, learn in self._wanted:
            if self._stopped.is_set():
                return
            try:
                self._found[name] = learn(self._stopped.is_set)
            except (OSError, ValueError, RuntimeError, MLCubeError):  # the record goes without it
                continue
