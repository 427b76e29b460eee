"""What an interpreter older than 3.9 runs of mlcube.pyz: it looks for a newer one. Any Python from 2.7 can read it."""
# ruff: noqa: UP031, RUF005 - see above
import os
import subprocess  # noqa: TID251 - runs where the program cannot
import sys

NEEDED = "mlcube needs Python 3.9 or newer"


def newer():
    # type: () -> str
    """The newest of python3.14 ... python3.9 on PATH that starts, or ''; a version manager's stand-in may not."""
    directories = [directory or "." for directory in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    with open(os.devnull, "r+b") as nothing:
        for minor in range(14, 8, -1):
            for directory in directories:
                python = os.path.join(directory, "python3.%d" % minor)
                probe = [python, "-I", "-S", "-c", "import sys; sys.exit(sys.version_info < (3, 9))"]
                if os.access(python, os.X_OK) and os.path.isfile(python) and subprocess.call(
                    probe, stdin=nothing, stdout=nothing, stderr=nothing
                ) == 0:
                    return python
    return ""


def start_older(path, arguments):
    # type: (str, list[str]) -> None
    """Replace this process by a newer interpreter that runs the file at `path`; without one, say so and exit with 4."""
    here = "%d.%d" % tuple(sys.version_info[:2])
    if os.environ.get("MLCUBE_PYTHON"):
        sys.stderr.write("error: %s, and MLCUBE_PYTHON names a Python %s\n" % (NEEDED, here))
        sys.exit(4)
    python = newer()
    if python:
        os.execv(python, [python, "-I", "-S", path] + arguments)
    sys.stderr.write("error: %s, and python3 is %s; install one, or name it in MLCUBE_PYTHON\n" % (NEEDED, here))
    sys.exit(4)


if __name__ == "__main__":
    start_older(globals()["archive"].name, sys.argv[1:])
