"""Build mlcube.pyz: shiv assembles the archive from our packages and locked libraries, we give it our own start.

    python packaging/build_pyz.py -o mlcube.pyz [--work build-pyz]

writes mlcube.pyz and mlcube.pyz.sha256. The same sources give the same bytes on every machine: modes and times are
fixed, and nothing is compressed, because compressors differ. The file is, in this order: the sh header (header.sh),
boot.py and older.py as text, the zip archive.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import subprocess  # noqa: TID251 - not part of the program
import sys
import tempfile
import zipfile
from pathlib import Path

from third_party import library_files

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "packaging"
PREFIX = "site-packages/"
PACKAGES = (("mlcube_cli", ROOT / "mlcube_cli"), ("mlcube_shell", ROOT / "runners/shell/mlcube_shell"),
            ("mlbox", ROOT / "mlbox"), ("mlcube_cli/schemas", ROOT / "schemas"))
SUFFIXES = (".py", ".json", ".typed")
NEWEST_MINOR, OLDEST_MINOR = 14, 9

# The text between two of these lines is found by position, whatever build it belongs to: the file may be replaced by
# another build between the moment the shell reads it and the moment Python does.
SEPARATOR = "\n#---\n"
HEADER_BYTES = 16384
READ = f'exec(archive.read({HEADER_BYTES}).split(b"{SEPARATOR!r}")[1+(sys.version_info<(3,9))])'.replace("'", "")
START = 'import sys;del sys.argv[0];archive=open(sys.argv[0],"rb");' + READ
ROOT_FILES = {
    "__main__.py": f'import sys\narchive = open(__file__[:-len("/__main__.py")], "rb")\n{READ}\n',
    "mlbox/__init__.py": "",
    "mlbox/__main__.py": 'import sys\napplet = "mlbox"\nsys.argv[0] = __file__[:-len("/mlbox/__main__.py")]\n'
                         f'archive = open(sys.argv[0], "rb")\n{READ}\n',
}


def main() -> int:
    """Build what the command line asks for and print what came out."""
    parser = argparse.ArgumentParser(description="Build mlcube.pyz.")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "mlcube.pyz")
    parser.add_argument("--work", type=Path, default=ROOT / "build-pyz", help="where the downloaded wheels are kept")
    arguments = parser.parse_args()
    modules, licences = library_files(arguments.work / "wheels")
    modules.update(our_modules())
    build = build_id(modules)
    content = header(build) + archive(assemble(modules), licences, len(header(build)))
    digest = write(arguments.output, content)
    sys.stdout.write(f"{arguments.output}: {len(content) // 1024} kB, build {build}, sha256 {digest}\n")
    return 0


def our_modules() -> dict[str, bytes]:
    """Our own packages by their name on sys.path, and what makes the cache's copy."""
    found = {"mlcube_unpack.py": (HERE / "unpack.py").read_bytes()}
    for package, directory in PACKAGES:
        for path in sorted(directory.rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                found[f"{package}/{path.relative_to(directory).as_posix()}"] = path.read_bytes()
    return found


def build_id(modules: dict[str, bytes]) -> str:
    """A name for this content: two builds with the same name are the same."""
    digest = hashlib.sha256()
    own = {name: (HERE / name).read_bytes() for name in ("header.sh", "boot.py", "older.py", "build_pyz.py")}
    for name, content in sorted({**modules, **own}.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:20]


def header(build: str) -> bytes:
    """Everything in front of the archive."""
    version = re.search(r'__version__ = "(.+)"', (ROOT / "mlcube_cli/__init__.py").read_text(encoding="utf-8"))
    names = " ".join(f"python3.{minor}" for minor in range(NEWEST_MINOR, OLDEST_MINOR - 1, -1))
    shell = (HERE / "header.sh").read_text(encoding="utf-8")
    for mark, value in (("@VERSION@", version[1] if version else ""), ("@START@", START), ("@NAMES@", names)):
        shell = shell.replace(mark, value)
    cache = (ROOT / "mlcube_cli/cache/__init__.py").read_text(encoding="utf-8")
    cache = cache.replace("from __future__ import annotations\n", "")
    boot = (HERE / "boot.py").read_text(encoding="utf-8").replace("from mlcube_cli.cache import find_cache\n", cache)
    older = (HERE / "older.py").read_text(encoding="utf-8")
    text = SEPARATOR.join((shell, squeeze(boot).replace("@BUILD@", build), squeeze(older), "")).encode("utf-8")
    if len(text) > HEADER_BYTES:
        raise SystemExit(f"error: the header has {len(text)} bytes, and only {HEADER_BYTES} are read at the start")
    return text


def squeeze(source: str) -> str:
    """The same program without docstrings, comment lines, blank lines, and the imports that only annotations need."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else ():
            text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            typing = ((isinstance(statement, ast.ImportFrom) and statement.module == "typing")
                      or (isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"))
            if text or typing:
                for number in range(statement.lineno - 1, statement.end_lineno or statement.lineno):
                    lines[number] = ""
    return "\n".join(line for line in lines if line.strip() and not line.strip().startswith("#"))


def assemble(modules: dict[str, bytes]) -> dict[str, bytes]:
    """What shiv puts below site-packages/, from a directory staged for it."""
    with tempfile.TemporaryDirectory() as scratch:
        staged, assembled = Path(scratch, "staged"), Path(scratch, "assembled.pyz")
        for name, content in modules.items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        subprocess.run([sys.executable, "-m", "shiv", "--site-packages", str(staged), "--output-file", str(assembled),
                        "--entry-point", "mlcube_cli.__main__:main", "--reproducible", "--uncompressed"], check=True)
        with zipfile.ZipFile(assembled) as packed:
            return {name: packed.read(name) for name in packed.namelist() if name.startswith(PREFIX)}


def archive(packages: dict[str, bytes], licences: dict[str, bytes], offset: int) -> bytes:
    """The zip archive with our own start in place of shiv's, its offsets counted from the start of the whole file."""
    entries = {name: text.encode("utf-8") for name, text in ROOT_FILES.items()}
    entries["licences/mlcube/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    entries.update(licences)
    entries.update(packages)
    with tempfile.TemporaryFile() as stream:
        stream.seek(offset)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
            for name, content in entries.items():
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                entry.create_system = 3
                entry.external_attr = 0o100644 << 16
                packed.writestr(entry, content)
        stream.seek(offset)
        return stream.read()


def write(output: Path, content: bytes) -> str:
    """Put the file and its checksum in place in one step each, so that a running mlcube.pyz is not disturbed."""
    digest = hashlib.sha256(content).hexdigest()
    checksum = output.with_name(output.name + ".sha256")
    for path, data, mode in ((output, content, 0o755), (checksum, f"{digest}  {output.name}\n".encode(), 0o644)):
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_bytes(data)
        scratch.chmod(mode)
        scratch.replace(path)
    return digest


if __name__ == "__main__":
    sys.exit(main())
