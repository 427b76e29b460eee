"""Do the nodes see what the jobs read and write? Told by the kind of the file systems here, without asking a node. Pure."""

from __future__ import annotations

import os
import re

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.relocation import is_at_or_below

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from mlcube_cli.batch import Batch
    from mlcube_cli.facts import Facts
    from mlcube_cli.job import Job

_MOUNTS = "/proc/self/mountinfo"
# File systems of one machine. Anything else (nfs, lustre, gpfs, beegfs, ceph, fuse.*, ...) may well be everybody's.
_OWN = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "vfat", "tmpfs", "ramfs", "overlay",
                  "squashfs", "rootfs", "devtmpfs", "bcachefs"))


def unshared(batch: Batch, jobs: Sequence[Job], hosts: AbstractSet[str], facts: Facts) -> tuple[str, ...]:
    """A note for the paths that only this machine may see, by the file system that they lie on; none where all nodes
    (`hosts`, as Slurm has them) are this machine. Raises facts.Missing."""
    if hosts and hosts <= {facts.host, facts.host.partition(".")[0], "localhost"}:
        return ()
    text = facts.text(_MOUNTS)
    mounts = read_mounts((text or b"").decode("utf-8", "surrogateescape"))
    paths = [batch.directory, *(job.root for job in jobs), *(job.workspace for job in jobs),
             *(argument.host_path for job in jobs for argument in job.paths)]
    found: dict[tuple[str, str], str] = {}
    for path in paths:
        mount = mount_of(path, mounts)
        if mount is not None and mount[1] in _OWN:
            found.setdefault(mount, path)
    return tuple(f"{_shown(path)} lies on a file system of this machine alone ({kind} at {_shown(place)}), unless it is "
                 "exported from here: the nodes must see it at the same path" for (place, kind), path in found.items())


def read_mounts(text: str) -> tuple[tuple[str, str], ...]:
    """Mount points with their kind, from /proc/self/mountinfo (proc(5)): a later one hides an earlier one."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        words, kind = before.split(" "), after.split(" ")[0]
        if separator and len(words) > 4 and kind:
            found.append((_plain(words[4]), kind))
    return tuple(found)


def mount_of(path: str, mounts: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """The mount that the path lies on; None where it is not known."""
    best: tuple[str, str] | None = None
    for mount in mounts:
        if is_at_or_below(os.path.normpath(path), mount[0]) and (best is None or len(mount[0]) >= len(best[0])):
            best = mount
    return best


def _plain(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
