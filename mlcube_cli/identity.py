"""What an image is, as a value, and the judgement whether it is the one that the cube's lock names (docs/lock.md)."""

from __future__ import annotations

from dataclasses import dataclass

from mlcube_cli import TYPE_CHECKING
from mlcube_cli.errors import NOWHERE, Location, PreparationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlcube_cli.facts import Facts
    from mlcube_cli.job import Job

# How an image is known again on another machine (RULINGS 15), the surest first.
MANIFEST, INPUTS, FILE, IMAGE = "manifest", "inputs", "file", "image"
METHODS = {
    MANIFEST: "the registry's manifest digest",
    INPUTS: "the digest of its build files and build arguments",
    FILE: "the sha256 of its file",
    IMAGE: "the image's id",
}
# What `uname -m` says, in the words of container images (https://github.com/opencontainers/image-spec, config.md).
_PROCESSORS = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386", "i386": "386"}


@dataclass(frozen=True)
class Pin:
    """One entry of a lock: the image that a platform had on one architecture when it was locked."""

    image: str  # what the platform named; a file without the directories that only one machine has
    method: str  # one of METHODS
    digest: str  # "sha256:" and 64 hexadecimal digits
    architecture: str  # "linux/amd64"
    location: Location = NOWHERE
    platform: str = ""  # whose entry it is


@dataclass(frozen=True)
class Identity:
    """What this machine knows of a platform's image (or, without one, of its environment). Digests are "sha256:HEX"."""

    name: str  # the image's name, or the file's path
    kind: str  # "image" | "sif" | "sandbox" | "environment" | "interpreter"
    present: bool = True
    id: str = ""  # the engine's image id; of an environment its key
    digests: tuple[str, ...] = ()  # NAME@sha256:... in registries, as the engine remembers them
    inputs: str = ""  # built by mlcube: the digest of what went into it
    sha256: str = ""  # of the file
    source: str = ""  # what it was made from, as far as that is known
    architecture: str = ""
    pin: Pin | None = None  # how a lock would name it; None: a lock cannot
    held: Pin | None = None  # the entry of the cube's lock that it is held to
    same: bool = False  # whether it is the image of that entry
    notes: tuple[str, ...] = ()  # what a lock of it cannot promise

    @property
    def hash(self) -> str:
        """What earlier programs called its hash: the hexadecimal image id or file digest (spec/dialects 4.3)."""
        return (self.sha256 or self.id or self.inputs).rpartition(":")[2]


def prefixed(digest: str) -> str:
    """The digest with the name of its algorithm, which podman leaves out; "" stays."""
    return digest if ":" in digest or not digest else f"sha256:{digest}"


def machine_architecture(facts: Facts) -> str:
    """This machine as container images name it: "linux/amd64"."""
    return f"linux/{_PROCESSORS.get(facts.processor, facts.processor)}"


def find_pin(pins: Iterable[Pin], facts: Facts, architecture: str = "") -> Pin | None:
    """The entry of a lock that holds here: for this machine's architecture, or for that of the image which is here.

    A digest of build inputs holds everywhere. None: there is none that says anything here.
    """
    pins, here = tuple(pins), machine_architecture(facts)
    for wanted in (here, architecture):
        found = next((pin for pin in pins if pin.architecture == wanted), None)
        if found:
            return found
    return next((pin for pin in pins if pin.method == INPUTS), None)


def unlocked_notes(job: Job, facts: Facts, architecture: str = "") -> tuple[str, ...]:
    """Says that a lock is there and does not speak of this image, so that nobody takes it for checked."""
    if not job.lock or find_pin(job.pins, facts, architecture):
        return ()
    what = f"platform '{job.platform.name}'"
    if job.pins:
        others = ", ".join(pin.architecture for pin in job.pins)
        what += f" on {architecture or machine_architecture(facts)} (it has: {others})"
    return (f"{job.lock} does not speak of {what}: its image is not checked; "
            f"to lock it: mlcube lock --platform {job.platform.name}",)


def is_same(pin: Pin, found: Identity) -> bool:
    """Whether this image is the one that was locked. A digest is content: which registry had it does not matter."""
    if pin.method == MANIFEST:
        return pin.digest in {digest.partition("@")[2] for digest in found.digests}
    return pin.digest == {INPUTS: found.inputs, FILE: found.sha256, IMAGE: found.id}.get(pin.method)


def refuse_other_name(job: Job, pin: Pin, name: str, found: str) -> None:
    """Raises PreparationError where the platform names another image than the one that was locked. `found`: what it is."""
    if pin.image != name:
        raise PreparationError(
            f"platform '{job.platform.name}' asks for another image than the one that was locked{_whose(job, pin)}\n"
            f"  locked: {pin.image}, {pin.digest}\n  found:  {name}, {found}",
            f"ask for the locked image, or lock the other one: {update_command(job)}", pin.location)


def different(job: Job, pin: Pin, name: str, found: str, remedy: str = "") -> PreparationError:
    """The error for an image that is not the locked one, with both digests. `remedy`: a further way out."""
    accept = "to accept it, give this platform a lock of its own" if _whose(job, pin) else "to accept it, renew the lock"
    ways = ([remedy] if remedy else []) + [f"{accept}: {update_command(job)}"]
    return PreparationError(
        f"image {name} is not the one that was locked{_whose(job, pin)}\n  locked: {pin.digest}, {METHODS[pin.method]}\n"
        f"  found:  {found}", "; ".join(ways), pin.location)


def _whose(job: Job, pin: Pin) -> str:
    """Says that the entry is another platform's, which has the same image, or one that this one's is made from; "" for its
    own."""
    return "" if pin in job.pins or not pin.platform else f" for platform '{pin.platform}'"


def update_command(job: Job) -> str:
    """What to type to renew the lock's entry."""
    return f"mlcube configure --platform {job.platform.name} --update-lock"
