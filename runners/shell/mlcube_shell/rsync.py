"""The words of rsync: code and inputs sent, outputs brought home, a list of what would travel; what its failures mean."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlcube_cli.command import Command, Reason, Variable
from mlcube_cli.errors import MachineError
from mlcube_cli.parcels import Listed
from mlcube_shell.tools import rsync_can

PARTIAL = ".mlcube-partial"  # where half of a file waits for the next try: a directory beside its place, or one for all
OURS = (".mlcube", PARTIAL)  # never travels, whatever the user's rules say (RULINGS 30)
HISTORY = (".git",)
# Made anew by whoever needs it: no code. `sync.include` sends it all the same.
NO_CODE = ("*.sif", "*.simg", "*.img", "__pycache__/", ".venv/", ".tox/", ".nox/", ".pytest_cache/", ".mypy_cache/",
           ".ruff_cache/", ".ipynb_checkpoints/", ".DS_Store")
_WILD = re.compile(r"[*?\[]")
_PLAIN = re.compile(r"[A-Za-z0-9_./+@-]+")
_SPECIAL = re.compile(r"([*?\[\\])")


@dataclass(frozen=True)
class Travel:
    """All that rsync needs to know about the way, and about what the user wants of it."""

    shell: str  # the value of --rsh
    host: str  # HOST or USER@HOST, as ssh knows it
    rules: tuple[str, ...] = ()  # the user's filter rules for what is sent, in rsync's words; the first that fits counts
    compress: bool = False
    bandwidth: str = ""  # as --bwlimit takes it; empty: no limit
    checksum: bool = False  # compare contents, whatever sizes and times say
    here: str = ""  # what `rsync --version` says on this machine; empty: not known
    there: str = ""
    progress: bool = False  # on stdout, one line that is written over and over
    partial: str = PARTIAL  # absolute: one directory for all, on the receiving side, on the file system of what arrives
    unfinished: str = ""  # absolute, and there: where a file is until it is whole; empty: beside its place

    def can(self, what: str) -> bool:
        """Both sides must."""
        return rsync_can(self.here, what) and rsync_can(self.there, what)


# --- what travels ----------------------------------------------------------------------------------------------------


def push_code(travel: Travel, root: str, code: str, leave_out: Iterable[str] = ()) -> Command:
    """Make the directory `code` there a mirror of the cube's directory `root`: what is gone here is deleted there.

    `leave_out`: absolute paths below `root` that are no code. Neither these, nor our own files, nor what the rules exclude
    is sent, and none of it is deleted there. The directory above `code` must exist. Absolute paths.
    """
    fixed = [_exclude(name) for name in (*HISTORY, *OURS)]
    fixed += [_exclude(f"/{literal(path[len(root.rstrip('/')) + 1:])}") for path in leave_out]
    rules = (*fixed, *travel.rules, *(_exclude(name) for name in NO_CODE))
    return Command((*_words(travel), "--delete", *_filters(rules), _slashed(root), _there(travel, _slashed(code))))


def push_paths(travel: Travel, source_base: str, target_base: str, names: Iterable[str],
               followed: Iterable[str] = ()) -> tuple[Command, ...]:
    """Send these names below `source_base` to below `target_base`. Nothing is deleted there.

    `names` are relative; a directory's ends with a slash, and where it is a link, what it leads to is sent. `followed`: files
    that are links. The user's rules hold within the directories named, not for the names themselves. `target_base`, or the
    directory above it, must exist. Absolute paths.
    """
    names, followed = tuple(names), tuple(followed)
    commands = []
    for some, extra in ((names, ()), (followed, ("--copy-links",))):
        if some:
            rules = (*includes(some), *(_exclude(name) for name in OURS), *travel.rules,
                     *(_exclude(name) for name in HISTORY))
            commands.append(Command((*_words(travel), *extra, *_RELATIVE, *_filters(rules),
                                     *(_marked(source_base, name) for name in some),
                                     _there(travel, _slashed(target_base)))))
    return tuple(commands)


def pull_paths(travel: Travel, source_base: str, target_base: str, names: Iterable[str],
               keep: Iterable[str] = ()) -> Command:
    """Bring these names below `source_base` there to below `target_base` here; what is not there is left out.

    `keep`: names, or paths below them, that stay as they are here. A file that comes replaces its namesake once it is whole.
    No directory here becomes another one: one that is a link here, at or above a name, is to be pulled by `pull_tree`.
    """
    rules = [_exclude(f"/{literal(name)}") for name in keep] + [_exclude(name) for name in OURS]
    names = tuple(names)
    words = (*_words(travel), *(("--ignore-missing-args",) if travel.can("ignore_missing") else ()))
    # A pattern that fits nothing is taken for a path with backslashes in it; and the login shell might see the names.
    if _WILD.search(source_base) or len(names) > _MOST_WORDS or not travel.can("secluded"):
        return Command((*words, *_LISTED, *_filters(rules), _there(travel, literal(_slashed(source_base))),
                        _slashed(target_base)), stdin=_list(names))
    sources = (_there(travel, literal(_marked(source_base, name))) for name in names)
    return Command((*words, *_RELATIVE, *_filters(rules), *sources, _slashed(target_base)))


def pull_tree(travel: Travel, source: str, target: str, keep: Iterable[str] = ()) -> Command:
    """Bring what lies in the directory `source` there into the directory `target` here, whatever each is called.

    `keep`: paths below it, relative, that stay as they are here.
    """
    rules = [_exclude(f"/{literal(name)}") for name in keep] + [_exclude(name) for name in OURS]
    return Command((*_words(travel), *_filters(rules), _there(travel, literal(_slashed(source))), _slashed(target)))


def pull_file(travel: Travel, source: str, target: str) -> Command:
    """Bring the file `source` there to the path `target` here, whatever it is called; nothing, where it is not there."""
    missing = ("--ignore-missing-args",) if travel.can("ignore_missing") else ()
    return Command((*_words(travel), *missing, _there(travel, literal(source)), target))


# Names are words: of those of a list, rsync 3.5 looks at each directory on the way anew for every file, which takes as long
# again as all else [tried, with 100,000 files].
_RELATIVE = ("--relative", "--no-implied-dirs")
_LISTED = ("--from0", "--files-from=-", "--no-implied-dirs")
_MOST_WORDS = 500  # rsync sends at most a thousand to the other side


def _words(travel: Travel) -> tuple[str, ...]:
    """What all transfers share. No owners and groups: those of the other machine mean nothing here."""
    secluded = "--secluded-args" if travel.can("secluded_long") else "-s"
    options = (
        (secluded, travel.can("secluded")),
        (f"--temp-dir={travel.unfinished}", bool(travel.unfinished)),
        ("--compress", travel.compress),
        ("--checksum", travel.checksum),
        (f"--bwlimit={travel.bandwidth}", bool(travel.bandwidth)),
        # Otherwise a file that was changed within the second and kept its size would count as unchanged.
        ("--modify-window=-1", travel.can("exact_times")),
        ("--info=progress2", travel.progress and rsync_can(travel.here, "progress")),
    )
    return ("rsync", "--recursive", "--links", "--perms", "--times", "--sparse", f"--partial-dir={travel.partial}",
            *(word for word, wanted in options if wanted), f"--rsh={travel.shell}")


def _there(travel: Travel, path: str) -> str:
    """A host that is an IPv6 address stands in brackets, for rsync takes what follows the first colon for the path.

    Raises MachineError where the login shell there would read the path, and could take it for something else.
    """
    if not travel.can("secluded") and not _PLAIN.fullmatch(path):
        old = "here" if not rsync_can(travel.here, "secluded") else "there"
        raise MachineError(f"the rsync {old} is too old for a directory of this name on the other machine: {path}",
                           f"install rsync 3 {old}, or set remote_root to a path of letters, digits and ./_- alone")
    user, at, host = travel.host.rpartition("@")
    return f"{user}{at}[{host}]:{path}" if ":" in host and not host.startswith("[") else f"{travel.host}:{path}"


def _slashed(path: str) -> str:
    return path.rstrip("/") + "/"


def _marked(base: str, name: str) -> str:
    """A path whose part before `/./` --relative leaves out on the other side."""
    return f"{_slashed(base)}./{name}"


def _list(names: Iterable[str]) -> bytes:
    """For --files-from, which takes what begins with one of two characters for a comment."""
    told = (f"./{name}" if name[:1] in ("#", ";") else name for name in names)
    return b"".join(name.encode("utf-8", "surrogateescape") + b"\0" for name in told)


def _exclude(pattern: str) -> str:
    return f"- {pattern}"


def _filters(rules: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"--filter={rule}" for rule in dict.fromkeys(rules))


def includes(names: Iterable[str]) -> tuple[str, ...]:
    """Rules by which these names, and the directories above them, travel whatever later rules say."""
    found: dict[str, None] = {}
    for name in names:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        for count in range(1, len(parts)):
            found[f"+ /{literal('/'.join(parts[:count]))}/"] = None
        if parts:
            found[f"+ /{literal('/'.join(parts))}"] = None
    return tuple(found)


def literal(path: str) -> str:
    """A path as a pattern that fits only itself: rsync takes a backslash for itself in a pattern without wildcards.

    So it is for the other side's paths too: the sending rsync looks for what fits them.
    """
    return _SPECIAL.sub(r"\\\1", path) if _WILD.search(path) else path


# --- a list of what would travel -------------------------------------------------------------------------------------


_NOT_TOLD = ("--info=progress2", "--temp-dir=")  # words that a dry run has no use for: that directory need not be there yet


def list_command(command: Command, doing: bool = False) -> Command:
    """The same transfer, only told: rsync's own dry run, for `parse_listing`. `doing`: it is done, and told meanwhile."""
    words = tuple(word for word in command.argv[1:] if doing or not word.startswith(_NOT_TOLD))
    options = (*(() if doing else ("--dry-run",)), "--8-bit-output", "--out-format=%i %l %M %n")
    return replace(command, argv=(command.argv[0], *options, *words), env=(*command.env, Variable("TZ", "UTC0")))


_LINE = re.compile(r"([<>ch.][fdLDS])(\S{9}) (\d+) (\d+/\d+/\d+-\d+:\d+:\d+) (.*)", re.DOTALL)
_KINDS = {"f": "file", "d": "directory", "L": "link"}
_ESCAPED = re.compile(r"\\#(\d{3})")


def parse_listing(text: str, command: Command) -> tuple[Listed, ...]:
    """What `list_command` of this transfer says. What would only get another time or mode is left out."""
    found = []
    for line in re.split("[\r\n]", text):  # in names both are escaped; how far it is ends with a carriage return
        modified = 0
        if line.startswith("*deleting"):
            name, size, change = re.sub(r"^\*deleting\s+\d+ \S+ ", "", line), 0, "deleted"
            kind = "directory" if name.endswith("/") else "file"
        else:
            matched = _LINE.fullmatch(line)
            if matched is None or matched[1][0] == "." or matched[1][1] not in _KINDS or matched[5] == "./":
                continue
            kind, name = _KINDS[matched[1][1]], matched[5]
            size = int(matched[3]) if kind == "file" else 0
            change = "new" if matched[2].startswith("+") else "changed"
            modified = calendar.timegm(time.strptime(matched[4], "%Y/%m/%d-%H:%M:%S"))
        found.append(Listed(_here(command, _unescaped(name)), size, change, kind, modified))
    return tuple(found)


def _here(command: Command, name: str) -> str:
    """The path of this machine that a name in the list means."""
    *_, source, target = command.argv
    if target.startswith("/"):  # it comes from the other machine
        return target + name if target.endswith("/") else target
    return _slashed(source.partition("/./")[0]) + name


def _unescaped(name: str) -> str:
    """rsync writes control characters, and a backslash that could be taken for the beginning of one, as `\\#012`."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), name)


# --- what failures mean ----------------------------------------------------------------------------------------------

_AGAIN = "what has arrived stays: type the command again, and it goes on from there"

# The first whose text is in the last lines counts (https://download.samba.org/pub/rsync/rsync.1#EXIT_VALUES).
REASONS = (
    Reason("is your shell clean", "the login shell there prints something, which rsync takes for its own protocol",
           "in .bashrc, .cshrc or config.fish there, print only in interactive shells: "
           "`ssh HOST true` must print nothing"),
    Reason("rsync: command not found", "there is no rsync on the other machine", "install rsync there"),
    Reason("rsync: not found", "there is no rsync on the other machine", "install rsync there"),
    Reason("unknown command: rsync", "there is no rsync on the other machine", "install rsync there"),
    Reason("remote command not found", "there is no rsync on the other machine", "install rsync there"),
    Reason("no space left on device", "a disk is full", "make room on the machine that the lines above name, "
           f"then: {_AGAIN}"),
    Reason("disk quota exceeded", "your quota is used up", f"make room there, then: {_AGAIN}"),
    Reason("read-only file system", "the file system of the target is read-only",
           "set remote_root to a directory that can be written"),
    Reason("on remote machine: -", "the rsync of the other machine is too old for what it is asked to do",
           "install rsync 3.1 or newer there"),
    Reason("could not make way for", "a file is to replace a directory that is not empty, or a directory a file",
           "remove the one at the target that the lines above name"),
    Reason("cannot delete non-empty directory", "a file is to replace a directory that is not empty",
           "remove the one at the target that the lines above name"),
    Reason("file name too long", "a name is too long for the other file system", "shorten the name that the lines above name"),
    Reason("permission denied (13)", "a file or directory may not be read or written",
           "change the permissions of what the lines above name"),
    Reason("operation not permitted (1)", "a file or directory may not be changed",
           "change the permissions of what the lines above name"),
    Reason("no such file or directory (2)", "what was to travel is not there",
           "look for what the lines above name; sync push makes the directories of a cube there"),
    Reason("timeout in data send/receive", "the connection stands still", _AGAIN),
    Reason("connection unexpectedly closed", "the connection broke", _AGAIN),
    Reason("error in rsync protocol data stream", "the connection broke", _AGAIN),
    Reason("broken pipe", "the connection broke", _AGAIN),
    Reason("vanished before they could be transferred", "files went away while they were being sent",
           "wait until nothing writes there, and type the command again"),
)
