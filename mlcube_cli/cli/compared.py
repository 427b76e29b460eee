"""What transfers between two machines would do: asked of the very commands that would do it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from mlcube_cli.cli.executing import why_failed
from mlcube_cli.command import Step
from mlcube_cli.errors import TransferError
from mlcube_cli.manifest import Manifest, changed_since
from mlcube_cli.outcome import Outcome
from mlcube_cli.parcels import Listed, Parcel
from mlcube_cli.process import ask
from mlcube_cli.relocation import is_at_or_below
from mlcube_cli.runner import Carrier

VANISHED = 24  # rsync's exit code: something went away meanwhile, as in a run that goes on
_LONGEST = 24 * 3600.0  # seconds for a list


def listed_by(carrier: Carrier, steps: Sequence[Step]) -> tuple[Listed, ...]:
    """What these steps would do; each thing once. Raises TransferError."""
    found: dict[Listed, None] = {}
    for step in steps:
        command = carrier.told(step)
        if command is None:
            continue
        said = ask(command, _LONGEST)
        if said.exit_code not in (0, VANISHED):
            tail = tuple(said.stderr.splitlines()[-25:])
            raise why_failed(step, Outcome("failed", said.exit_code, 0.0, tail=tail, command=command), TransferError)
        found.update(dict.fromkeys(carrier.listed(step, said.stdout)))
    return tuple(found)


def written_over(items: Iterable[Listed], outputs: Sequence[Parcel], manifest: Manifest) -> tuple[str, ...]:
    """What stays here, since it was changed: what a transfer would replace by what another machine has made since.

    Changed since the manifest, that is; or before it, where the other machine still has what last came from there.
    """
    reals = [(os.path.realpath(parcel.here), parcel.here) for parcel in outputs]
    replaced = {_as_named(item.path, reals): item for item in items if item.change == "changed"}
    old = {path for path, (_, size, time) in manifest.came.items()
           if path in replaced and (replaced[path].size, replaced[path].modified) == (size, time // 10**9)}
    return tuple(sorted(old | (set(changed_since(manifest)) & set(replaced))))


def _as_named(path: str, reals: Sequence[tuple[str, str]]) -> str:
    """A path behind an output that is a link here, as one below the output."""
    return next((named + path[len(real):] for real, named in reals if is_at_or_below(path, real)), path)
