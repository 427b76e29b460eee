"""The libraries inside mlcube.pyz: fetched by pip against locked hashes, unzipped, changed where a zip asks for it."""

from __future__ import annotations

import hashlib
import json
import subprocess  # noqa: TID251 - not part of the program
import sys
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_name("requirements.lock")
# The hashes name the wheels; this says to pip for which interpreter it looks, whatever it runs on itself.
TARGET = ("--python-version", "3.9", "--implementation", "cp", "--abi", "cp39", "--platform", "manylinux2014_x86_64")
LEFT_OUT = ("tests/", "benchmarks/", "i18n/", "_yaml/")

# (file, text, replacement): jsonschema reads its metaschemas in a way that fails inside a zip on Python 3.9, and it and
# plumbum import urllib.request (a third of their import time: ssl, http, email) for one rarely called function each.
CHANGES = (
    ("jsonschema/_utils.py", """# The files() API was added in Python 3.9.
if sys.version_info >= (3, 9):  # pragma: no cover
    from importlib import resources
else:  # pragma: no cover
    import importlib_resources as resources  # type: ignore
""", ""),
    ("jsonschema/_utils.py", """    path = resources.files(__package__).joinpath(f"schemas/{name}.json")
    data = path.read_text(encoding="utf-8")
    return json.loads(data)
""", """    from jsonschema._metaschemas import SCHEMAS

    return SCHEMAS[name]
"""),
    ("jsonschema/validators.py", """        package = _utils.resources.files(__package__)
        for version in package.joinpath("schemas", "vocabularies").iterdir():
            for path in version.iterdir():
                vocabulary = json.loads(path.read_text())
                _VOCABULARIES.append((vocabulary["$id"], vocabulary))
""", """        from jsonschema._metaschemas import VOCABULARIES

        _VOCABULARIES.extend(VOCABULARIES)
"""),
    ("jsonschema/validators.py", "from urllib.request import urlopen\n", ""),
    ("jsonschema/validators.py", "            with urlopen(uri) as url:\n",
     "            from urllib.request import urlopen\n\n            with urlopen(uri) as url:\n"),
    ("plumbum/machines/local.py", "platform.uname()[0]", "platform.uname().system"),  # [0] asks the program uname too
    ("plumbum/path/local.py", "import urllib.request as urllib\n", ""),
    ("plumbum/path/local.py", "urllib.pathname2url(", "urlparse.quote("),
    ("plumbum/path/remote.py", "import urllib.request as urllib\n", "import urllib.parse as urllib\n"),
    ("plumbum/path/remote.py", "urllib.pathname2url(", "urllib.quote("),
)


def locked_hashes() -> frozenset[str]:
    """The sha256 of every wheel that the lock file names."""
    words = LOCK.read_text(encoding="utf-8").split()
    return frozenset(word.partition("sha256:")[2] for word in words if word.startswith("--hash="))


def wheels(directory: Path) -> list[Path]:
    """The locked wheels, in order of their names; downloaded into `directory` unless they are all there already."""
    directory.mkdir(parents=True, exist_ok=True)
    found = _matching(directory)
    if len(found) < len(locked_hashes()):
        pip = [sys.executable, "-m", "pip", "--quiet", "--quiet", "download", "--no-deps", "--only-binary", ":all:"]
        where = ["--dest", str(directory), "--require-hashes", "--requirement", str(LOCK)]
        subprocess.run([*pip, *TARGET, *where], check=True)
        found = _matching(directory)
    if len(found) != len(locked_hashes()):
        raise SystemExit(f"error: {directory} does not hold the wheels of {LOCK}, each once; empty it and build again")
    return found


def _matching(directory: Path) -> list[Path]:
    locked = locked_hashes()
    return [path for path in sorted(directory.glob("*.whl"))
            if hashlib.sha256(path.read_bytes()).hexdigest() in locked]


def library_files(directory: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The modules of the locked libraries by their name on sys.path, and their licences by their name in the pyz."""
    modules: dict[str, bytes] = {}
    licences: dict[str, bytes] = {}
    data: dict[str, bytes] = {}
    for wheel in wheels(directory):
        with zipfile.ZipFile(wheel) as packed:
            for name in packed.namelist():
                top, _, rest = name.partition("/")
                if top.endswith(".dist-info"):
                    if rest == "METADATA" or any(word in rest.upper() for word in ("LICENSE", "COPYING")):
                        licences[f"licences/{top[:-len('.dist-info')]}/{rest.rpartition('/')[2]}"] = packed.read(name)
                elif name.startswith("jsonschema/schemas/"):
                    data[name] = packed.read(name)
                elif name.endswith(".py") and not any(part in rest for part in LEFT_OUT) and f"{top}/" not in LEFT_OUT:
                    modules[name] = packed.read(name)
    modules["jsonschema/_metaschemas.py"] = _metaschemas(data)
    _change(modules)
    licences["licences/README"] = _notice(wheels(directory))
    return modules, licences


def _metaschemas(data: dict[str, bytes]) -> bytes:
    """jsonschema's own data files as a module."""
    folder = "jsonschema/schemas/"
    read = {name[len(folder):]: json.loads(content) for name, content in sorted(data.items())}
    schemas = {name[:-len(".json")]: schema for name, schema in read.items() if "/" not in name}
    vocabularies = [(schema["$id"], schema) for name, schema in read.items() if name.startswith("vocabularies/")]
    return f"SCHEMAS = {schemas!r}\nVOCABULARIES = {vocabularies!r}\n".encode()


def _change(modules: dict[str, bytes]) -> None:
    for name, text, replacement in CHANGES:
        before = modules[name].decode("utf-8")
        if before.count(text) != 1:
            raise SystemExit(f"error: {name} no longer holds, once, the text that is changed for the pyz: {text!r}")
        modules[name] = before.replace(text, replacement).encode("utf-8")


def _notice(used: list[Path]) -> bytes:
    names = "".join(f"  {path.name}\n" for path in used)
    changed = "".join(f"  {name}\n" for name in sorted({name for name, _, _ in CHANGES}))
    return (f"mlcube.pyz contains the Python modules of these wheels, each under its licence beside this file:\n{names}"
            f"These files were changed to work, and to be quick, inside a zip archive:\n{changed}"
            "  jsonschema/_metaschemas.py holds the data files of jsonschema/schemas/\n").encode()
