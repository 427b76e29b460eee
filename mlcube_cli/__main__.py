"""The entry points: which program were we called as, is this Python new enough, is the installation whole.

Only the standard library is imported here, and hardly any of it: `--version` costs a bare interpreter. The syntax is
that of Python 3.6, so that an older interpreter gets to the sentence that tells about it.
"""
# ruff: noqa: UP031, UP036 - see above

import os
import sys

from mlcube_cli import __version__

APPLETS = ("mlcube", "mlcube_docker", "mlcube_singularity", "mlcube_ssh", "mlbox")


def main(applet: str = "") -> int:
    """Run the command line in sys.argv and return its exit code. `applet` is the program to be; '' asks sys.argv[0]."""
    if sys.version_info < (3, 9):
        here = "%d.%d" % (sys.version_info[0], sys.version_info[1])
        return _fail("mlcube needs Python 3.9 or newer, this is " + here, "use a newer python3")
    _open_closed_streams()
    try:
        code = _run(sys.argv[1:], applet or _called_as(sys.argv[0]))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _die_by("SIGINT")
    except BrokenPipeError:  # who read our stdout has gone; end as quietly as cat or grep would
        return _die_by("SIGPIPE")
    except ImportError as error:
        return _broken(error)
    except OSError as error:
        if "--debug" in sys.argv:
            raise
        _give_up_stdout()
        where = "%s: " % error.filename if error.filename else ""
        return _fail(where + (error.strerror or str(error)), "the same command with --debug shows where")


def _open_closed_streams() -> None:
    """Where a standard stream was closed (>&-) /dev/null stands in: else the next file that is opened would be it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, hence this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - stays open


def _run(argv: "list[str]", applet: str) -> int:
    if argv == ["--version"]:
        sys.stdout.write("mlcube %s\n" % __version__)
        return 0
    from mlcube_cli.cli import main as cli_main

    return cli_main(argv, applet)


def _called_as(name: str) -> str:
    """The program that a link or a console script of this name stands for; any other name is mlcube itself."""
    stem = os.path.basename(name)
    if stem.endswith(".pyz"):
        stem = stem[: -len(".pyz")]
    return stem if stem in APPLETS else "mlcube"


def _broken(error: ImportError) -> int:
    if "--debug" in sys.argv:
        raise error
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    again = "install it again: python3 -m pip install --force-reinstall mlcube-cli"
    if os.path.basename(home) == "site-packages" and not os.path.isdir(home):  # inside the archive
        again = "get mlcube.pyz again"
    elif os.path.basename(os.path.dirname(home)) == "pyz":
        again = "remove that directory, it is made again"
    return _fail("mlcube is not installed completely: %s" % error, "it runs from %s; %s" % (home, again))


def _give_up_stdout() -> None:
    """When stdout takes nothing more (a full disk), forget what waits for it, or the interpreter complains at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, hint: str) -> int:
    sys.stderr.write("error: %s\nhint: %s\n" % (message, hint))
    return 4


def _die_by(name: str) -> int:
    """End by the signal itself, so that a shell loop or make sees it; returns only where that is impossible."""
    import signal

    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + int(number)


if __name__ == "__main__":
    sys.exit(main())
