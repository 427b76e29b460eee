"""What takes more than one place of a definition, or a look at the disk, to judge."""

from __future__ import annotations

import os

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.definition.draft import Draft, PlatformDraft
from mlcube_cli.definition.kinds import UNUSUAL, is_text, kind_of
from mlcube_cli.definition.load import Files
from mlcube_cli.definition.source import format_path
from mlcube_cli.definition.tree import Node, entries, find, is_set, items, text_of
from mlcube_cli.errors import NOWHERE, Location, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SIDES = ("inputs", "outputs")
_PLAIN_IMAGE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-/:@")
_WORD_OPTIONS = ("run_args", "gpu_args", "cpu_args", "env_args", "build_args")


def crosscheck(draft: Draft, files: Files) -> None:
    """Note what is wrong with names, directions and platforms; the readers noted what is wrong between their files."""
    for name, task in entries(find(draft.tree, "tasks")).items():
        _task_name(draft, files, name, task)
        _parameters(draft, files, name, task)
    for platform in draft.platforms:
        if platform.runner == "docker":
            _docker(draft, files, platform)
        elif platform.runner == "singularity":
            _singularity(draft, files, platform)
        elif platform.runner == "local":
            _local(draft, files, platform)


def _path(draft: Draft, *steps: str) -> str:
    """The path of a task or parameter in the file that declares it."""
    if draft.dialect == "inline" or len(steps) < 5:
        return format_path(() if draft.dialect == "directory" else steps)
    tasks, task, parameters, side, name = steps
    if draft.dialect == "mlbox":
        return format_path((tasks, task, side, name))
    return format_path((side, list(entries(find(draft.tree, tasks, task, parameters, side))).index(name)))


# --- names ---------------------------------------------------------------------------------------------------------


def _task_name(draft: Draft, files: Files, name: str, task: Node) -> None:
    path = _path(draft, "tasks", name)
    if not name.strip():
        files.note(task.key, "a task has an empty name", "bad-name", "give it a name of letters and digits", path)
        return
    odd = next((char for char in name if char in ",/:" or char.isspace() or not char.isprintable()), None)
    if odd or name.startswith("-"):
        what = f"holds {_character(odd)}" if odd else "begins with '-'"
        files.warn(task.key, f"the task's name '{name}' {what}, so some spellings of the command line cannot name it",
                   "bad-name", "use letters, digits, '_', '-' and '.'", path)


def _parameters(draft: Draft, files: Files, task_name: str, task: Node) -> None:
    sides = {side: entries(find(task, "parameters", side)) for side in _SIDES}
    for side, parameters in sides.items():
        for name, node in parameters.items():
            _parameter_name(draft, files, (task_name, side, name), node)
    for side, parameters in sides.items():
        for name, node in parameters.items():
            _parameter_type(draft, files, (task_name, side, name), node)
    free = "mlbox" in (draft.dialect, text_of(find(draft.tree, "calling_convention")))
    for name, node in sides["outputs"].items():
        if not free and not _has_type(node):
            files.warn(node.key, f"the type of output '{name}' is not stated: a run fails unless it exists already",
                       "unknown-type", "add 'type: file' or 'type: directory', or end a directory's path with '/'",
                       _path(draft, "tasks", task_name, "parameters", "outputs", name))
        if name in sides["inputs"]:
            files.warn(node.key, f"'{name}' is both an input and an output: it is passed once, read-write",
                       "both-directions", "rename one of them if two paths are meant",
                       _path(draft, "tasks", task_name, "parameters", "outputs", name))


def _parameter_type(draft: Draft, files: Files, where: tuple[str, str, str], node: Node) -> None:
    """What is odd about a parameter's type, and about a value that the type does not fit."""
    task, side, name = where
    stated, default = find(node, "type"), find(node, "default")
    word, path = text_of(stated), _path(draft, "tasks", task, "parameters", side, name)
    place = stated.location if stated is not None else node.key
    if word and (meant := UNUSUAL.get(word)):
        unclear = meant == "unknown"
        files.warn(place, f"'type: {word}' does not say whether it is a file or a directory" if unclear else
                   f"'type: {word}' is read as '{meant}'", "unusual-type",
                   "write 'type: file' or 'type: directory'" if unclear else f"write 'type: {meant}'", path)
    if not is_text(node):
        _windows_path(files, name, default, path)
        if default is not None and isinstance(default.value, bool):
            files.warn(default.location, f"the value of '{name}' is taken as the path '{text_of(default)}'", "value-as-path",
                       "add 'type: bool' if it is no path", path)
    elif side == "outputs":
        files.note(place, f"output '{name}' is of the type '{word}', but an output is a file or a directory", "bad-value",
                   "make it an input, or write 'type: file' or 'type: directory'", path)
    elif default is not None and default.secret:
        files.warn(default.location, f"the value of '{name}' is taken from the environment, and is passed as a word that "
                   "everybody on the machine can see", "secret-argument", "pass a secret through the platform's 'env'", path)


def _windows_path(files: Files, name: str, default: Node | None, path: str) -> None:
    """Warn of `C:\\data` and `data\\mnist`: on this machine these are odd names, not paths."""
    text = text_of(default) or ""
    drive = text[:1].isalpha() and text[1:3] in (":\\", ":/")
    if default is not None and not default.secret and (drive or "\\" in text[:-1]):
        hint = "give the path that it has on this machine" if drive else f"write '{text.replace(chr(92), '/')}'"
        files.warn(default.location, f"the value of '{name}' is a path of Windows; here it is an odd name", "windows-path",
                   hint, path)


def _has_type(output: Node) -> bool:
    """True when a run can tell whether the output is a file or a directory (spec/dialects 3.4), or another problem has to be
    solved first: a reference that leads nowhere still stands in the value."""
    value = text_of(find(output, "default"))
    return value is None or value.endswith(("/", "\\")) or kind_of(output) != "unknown" or (
        value.endswith("}") and "${" in value.replace("${WORKSPACE}", ""))


def _parameter_name(draft: Draft, files: Files, where: tuple[str, str, str], node: Node) -> None:
    task, side, name = where
    path = _path(draft, "tasks", task, "parameters", side, name)
    odd = next((char for char in name if char == "=" or char.isspace() or not char.isprintable()), None)
    if not name:
        files.note(node.key, "a parameter has an empty name", "bad-name", "give it a name of letters and digits", path)
    elif odd or name.startswith("-"):
        what = f"holds {_character(odd)}" if odd else "begins with '-'"
        files.note(node.key, f"the parameter's name '{name}' {what}, so it cannot be passed as --NAME=PATH", "bad-name",
                   "use letters, digits, '_' and '-'", path)


def _character(char: str | None) -> str:
    if char is None or char == " ":
        return "a space"
    return f"'{char}'" if char.isprintable() else f"the character U+{ord(char):04X}"


# --- values --------------------------------------------------------------------------------------------------------


def unset_variables(dialect: str, tree: Node, environment: Mapping[str, str]) -> tuple[Problem, ...]:
    """A warning for each `$NAME` that the environment lacks, in the order of `tree`, the effective definition.

    For `validate` only: a run expands the values that it really uses, and then it is an error (RULINGS 1).
    """
    found: dict[tuple[Location, str], Problem] = {}
    for task, node in entries(find(tree, "tasks")).items():
        groups = entries(find(node, "groups")).values()
        for side in _SIDES:
            for name, parameter in entries(find(node, "parameters", side)).items():
                if is_text(parameter):
                    continue  # nothing is expanded there
                steps = {"inline": ("tasks", task, "parameters", side, name), "mlbox": (name,)}.get(
                    dialect, (f"{side[:-1]}_binding", name))
                for value in (find(parameter, "default"), *(find(group, name) for group in groups)):
                    for variable in _unset(text_of(value) or "", environment):
                        place = value.location if value is not None else NOWHERE
                        found.setdefault((place, variable), Problem(
                            place, f"the environment variable {variable} is not set", "unset-variable",
                            f"export {variable}=... before a run, or write $$ where a dollar is meant",
                            format_path(steps), "warning"))
    return tuple(found.values())


def _unset(text: str, environment: Mapping[str, str]) -> Iterator[str]:
    if "$" not in text.replace("$WORKSPACE/", "/"):
        return
    from mlcube_cli.variables import VARIABLE  # only here: it needs re, which is slow to import

    for match in VARIABLE.finditer(text):
        name = match["bare"] or match["braced"]
        if name and name != "WORKSPACE" and name not in environment:
            yield name


# --- platforms -----------------------------------------------------------------------------------------------------


def _option_path(draft: Draft, platform: PlatformDraft, option: str) -> str:
    return format_path((platform.name, option) if draft.dialect == "inline" else (option,))


def _docker(draft: Draft, files: Files, platform: PlatformDraft) -> None:
    options = entries(platform.options)
    image = options.get("image")
    if not text_of(image):
        place = _place(platform, image) if image is not None else platform.options.key
        if not _already(draft, files, platform, "image"):
            files.note(place, f"the platform '{platform.name}' names no image", "missing-key",
                       "add 'image: NAME'" if platform.file else f"name one: -P{platform.name}.image=NAME",
                       _option_path(draft, platform, "image"))
    _image(draft, files, platform, image)
    _shell_words(draft, files, platform)
    context = _below(files, options.get("build_context"))
    if context is not None:
        _build(draft, files, platform, context)


def _image(draft: Draft, files: Files, platform: PlatformDraft, image: Node | None) -> None:
    """An error for a name that no engine takes."""
    name = text_of(image) or ""
    plain = _PLAIN_IMAGE.issuperset(name) and name[:1].isalnum() and name[-1:].isalnum() and "//" not in name
    if image is None or image.secret or not name or "${" in name or plain:
        return
    from mlcube_cli.definition.images import image_fault

    if fault := image_fault(name):
        files.note(_place(platform, image), fault[0], "bad-image", fault[1], _option_path(draft, platform, "image"))


def _shell_words(draft: Draft, files: Files, platform: PlatformDraft) -> None:
    """Warn of what only a shell would replace: these words reach the engine without one."""
    for name in _WORD_OPTIONS:
        node = entries(platform.options).get(name)
        text = text_of(node) or " ".join(text_of(item) or "" for item in items(node))
        if node is not None and not node.secret and ("$(" in text or "`" in text):
            hint = "leave '-u $(id -u)' out: the task runs as you anyway" if "$(id -" in text else \
                "write its result, or put a variable ($NAME) there and export it"
            files.warn(_place(platform, node), f"'{name}' is read by no shell, so $(...) and `...` stay as they are",
                       "shell-syntax", hint, _option_path(draft, platform, name))


def _build(draft: Draft, files: Files, platform: PlatformDraft, context: str) -> None:
    """Warn of a build that the definition asks for in so many words and for which there is nothing on the disk."""
    options = entries(platform.options)
    stated = {name: options[name] for name in ("build_context", "build_file", "build_strategy")
              if name in options and not options[name].origin}
    name = text_of(options.get("build_file")) or ""
    path = os.path.join(context, name)
    if "$" in name or os.path.isfile(path):
        return
    strategy = text_of(options.get("build_strategy"))
    instead = ", so the image cannot be built" if strategy == "build" and "build_file" in stated else (
        ", so the image would be pulled")
    if "build_context" in stated and not os.path.isdir(context):
        option, what, hint = "build_context", f"directory {files.shown(context)}", "the path is relative to the cube"
    elif "build_file" in stated:
        option, what, hint = "build_file", f"build file {files.shown(path)}", "build_file is relative to build_context"
    elif text_of(stated.get("build_strategy")) in ("build", "always"):
        option, what, hint = "build_strategy", f"build file {files.shown(path)}", "make it, or say 'pull'"
    else:
        return
    files.warn(_place(platform, stated[option]), f"there is no {what}{instead}", "missing-path", hint,
               _option_path(draft, platform, option))


def _singularity(draft: Draft, files: Files, platform: PlatformDraft) -> None:
    """Warn of a recipe that the definition names and that is not on the disk; `docker://NAME` and the like are addresses."""
    options = entries(platform.options)
    node, context = options.get("build_file"), options.get("build_context")
    base = _below(files, context) if is_set(context) else os.path.join(files.root, "build" * (draft.dialect == "directory"))
    if node is None or node.origin or base is None or _below(files, node) is None or ":" in (text_of(node) or ""):
        return
    path = os.path.normpath(os.path.join(base, text_of(node) or ""))
    if not os.path.isfile(path):
        files.warn(_place(platform, node), f"there is no recipe {files.shown(path)}", "missing-path",
                   "build_file is relative to build_context", _option_path(draft, platform, "build_file"))


def _below(files: Files, node: Node | None) -> str | None:
    """The path below the cube that a text names; None for what only a run can tell (variables)."""
    text = text_of(node)
    if not text or "$" in text or text.startswith("~"):
        return None
    return os.path.normpath(os.path.join(files.root, text))


def _place(platform: PlatformDraft, node: Node) -> Location:
    return node.location if node.location != NOWHERE else platform.location


def _already(draft: Draft, files: Files, platform: PlatformDraft, option: str) -> bool:
    """True when the schema has said already that the option is missing or wrong."""
    inside = (f"{platform.name}.", "container.") if draft.dialect == "inline" else ""
    return any(problem.location.file == files.shown(platform.file) and problem.severity == "error"
               and problem.path.startswith(inside) and problem.path.rpartition(".")[2] == option
               for problem in files.problems)


def _local(draft: Draft, files: Files, platform: PlatformDraft) -> None:
    options = entries(platform.options)
    if text_of(options.get("kind")) == "exec":
        return
    if not is_set(options.get("entrypoint")) and not _already(draft, files, platform, "entrypoint"):
        _without_entrypoint(draft, files, platform)
    for name, path, node in _local_files(files, options):
        if not os.path.exists(path):
            files.note(_place(platform, node), f"there is no file {files.shown(path)}", "missing-path",
                       "the path is relative to the cube's directory", _option_path(draft, platform, name))


def _without_entrypoint(draft: Draft, files: Files, platform: PlatformDraft) -> None:
    """One error where no task has an entry point of its own, else one for each task that has none: others can run."""
    tasks = entries(find(draft.tree, "tasks"))
    lacking = [name for name, task in tasks.items() if not is_set(find(task, "entrypoint"))]
    hint = "add 'entrypoint: SCRIPT.py'" if platform.file else f"name one: -P{platform.name}.entrypoint=SCRIPT.py"
    what = f"the platform '{platform.name}' names no entrypoint, and"
    if len(lacking) == len(tasks):
        files.note(platform.options.key, f"{what} no task has its own", "missing-key", hint,
                   _option_path(draft, platform, "entrypoint"))
        return
    for name in lacking:
        files.note(platform.options.key, f"{what} the task '{name}' has none of its own", "missing-key", hint,
                   format_path(("tasks", name, "entrypoint")))


def _local_files(files: Files, options: Mapping[str, Node]) -> Iterator[tuple[str, str, Node]]:
    """(option, path, node) for the files that a local platform names: its requirements, and a script to run."""
    requirements, entrypoint = options.get("requirements"), options.get("entrypoint")
    path = _below(files, requirements)
    if requirements is not None and path is not None:
        yield "requirements", path, requirements
    first = items(entrypoint)[0] if items(entrypoint) else entrypoint
    words = (text_of(first) or "").split()
    if entrypoint is None or not words or "'" in words[0] or '"' in words[0]:
        return
    path = _below(files, Node(words[0], text=words[0]))
    if path is not None and (words[0].endswith(".py") or "/" in words[0]):
        yield "entrypoint", path, entrypoint
