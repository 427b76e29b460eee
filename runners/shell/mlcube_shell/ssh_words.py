"""What a platform says of a connection, as ssh's words: each checked, so that none can mean anything else. Pure."""

from __future__ import annotations

import re

from mlcube_cli.command import ssh_value
from mlcube_cli.definition.model import Option, Platform
from mlcube_cli.durations import find_seconds
from mlcube_cli.facts import Facts
from mlcube_shell.options import expand, refuse, scalar

# What ssh puts into the shell line of a ProxyCommand: ssh refuses these from version 9.6 on, older ones do not.
_HOST = re.compile(r"(?!-)[^\x00-\x20\x7f'\"`$\\;&<>|(){}\[\]/@,]+\Z")
_USER = re.compile(r"(?!-)(?!.* -)[^\x00-\x1f\x7f'\"`$;&<>|(){}]*[^\x00-\x20\x7f'\"`$;&<>|(){}\\]\Z")
_JUMP = re.compile(r"(?!-)[A-Za-z0-9._@:,/\[\]%+~-]+\Z")
# Letters that take a value: the rest of their word, or the next one (ssh.c, getopt's list).
_WITH_VALUE = frozenset("bBcDeEFiIJlLmoOpPQRSwW")
# What decides where the words go and how they come back is ours; `-o` names in lower case.
_LETTERS_OF_OURS = {
    "f": "", "G": "", "M": "", "N": "", "n": "", "O": "", "Q": "", "s": "", "S": "", "t": "", "V": "", "W": "", "D": "",
    "L": "", "R": "", "l": "'user'", "p": "'port'", "J": "'jump'", "i": "'identity_file'",
}
_NAMES_OF_OURS = {
    "controlmaster": "", "controlpath": "", "controlpersist": "'control_persist'", "remotecommand": "", "requesttty": "",
    "sessiontype": "", "stdinnull": "", "forkafterauthentication": "", "localforward": "", "remoteforward": "",
    "dynamicforward": "", "escapechar": "", "batchmode": "",
}
_NO_CHECK = re.compile(r"(stricthostkeychecking[\s=]+\"?(no|off|false)|(global|user)knownhostsfile[\s=]+\"?(/dev/null|none))\b",
                       re.IGNORECASE)


def text_of(platform: Platform, name: str) -> tuple[Option, str] | None:
    """The option and its value as text; None where it is not set, null or blank. Raises DefinitionError for other kinds."""
    option = platform.find(name)
    text = "" if option is None else scalar(option, option.value) if option.value is not None else ""
    return (option, text.strip()) if option is not None and text.strip() else None


def host_of(platform: Platform) -> tuple[str, str]:
    """Host and user, which `host: user@host` may say in one. Raises DefinitionError for what ssh could take for else."""
    found = text_of(platform, "host")
    if found is None:
        raise refuse(platform.find("host") or Option("host", None, str(platform.location)), "which machine is meant?",
                     "name it: -Prunner.host=NAME; a name of your ssh configuration is enough")
    option, text = found
    user, at, host = text.rpartition("@")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]  # ssh itself takes an IPv6 address bare
    if not _HOST.match(host) or not host.isprintable():
        raise refuse(option, f"{text!r} cannot be the name of a host",
                     "a host's name or address alone; user, port and jump are options of their own")
    if at and not _USER.match(user):
        raise refuse(option, f"{user!r} cannot be the name of a user")
    stated = text_of(platform, "user")
    if stated and not _USER.match(stated[1]):
        raise refuse(stated[0], f"{stated[1]!r} cannot be the name of a user")
    return host, stated[1] if stated else user


def port_of(platform: Platform) -> int:
    """The port; 0 where ssh's own configuration decides. Raises DefinitionError."""
    port = _whole(platform, "port")
    if port is not None and not 0 < port < 65536:
        option = platform.find("port")
        assert option is not None
        raise refuse(option, f"there is no port {port}", "ports go from 1 to 65535")
    return port or 0


def seconds_of(platform: Platform, name: str, default: float) -> float:
    """An option that is a length of time (`90`, `10m`), in seconds. Raises DefinitionError."""
    found = text_of(platform, name)
    if found is None:
        return default
    seconds = find_seconds(found[1])
    if seconds is None:
        raise refuse(found[0], f"{found[1]!r} is not a length of time", "write seconds or a unit: 90, 10m, 1h")
    return seconds


def _whole(platform: Platform, name: str) -> int | None:
    found = text_of(platform, name)
    if found is not None and not (found[1].isascii() and found[1].isdecimal()):
        raise refuse(found[0], f"expected a whole number, found {found[1]!r}")
    return None if found is None else int(found[1])


def timeout_of(platform: Platform) -> int:
    """Seconds to wait for the connection; 0 where ssh's own configuration decides. Raises DefinitionError."""
    return _whole(platform, "connect_timeout") or 0


def jump_of(platform: Platform) -> str:
    """The hosts to go through, as ssh's `-J` takes them; empty for none. Raises DefinitionError."""
    found = text_of(platform, "jump")
    if found is not None and not _JUMP.match(found[1]):
        raise refuse(found[0], f"{found[1]!r} names no host to go through", "write HOST or USER@HOST:PORT, several with commas")
    return found[1] if found else ""


def host_key_of(platform: Platform) -> str:
    """`strict`, `accept-new`, or empty: ssh's own configuration decides. Raises DefinitionError."""
    found = text_of(platform, "host_key")
    if found is not None and found[1] not in ("strict", "accept-new"):
        raise refuse(found[0], f"expected strict or accept-new, found {found[1]!r}",
                     "host keys are always checked; accept-new takes the key of a host that was never seen")
    return found[1] if found else ""


def identity_of(platform: Platform, facts: Facts) -> str:
    """The private key, absolute on this machine; empty where ssh's own configuration and agent decide.

    Raises DefinitionError for a name that ssh cannot be told.
    """
    found = text_of(platform, "identity_file")
    if found is None:
        return ""
    option = found[0]
    text = scalar(option, option.value)  # with blanks at its ends: they belong to a file's name
    path = text if option.secret else expand(option, text, "", facts)
    if "${" in path or "\n" in path:
        raise refuse(option, f"ssh cannot be told such a file name: {path!r}", "give the key another name")
    return path if path.startswith("/") else f"{facts.cwd.rstrip('/')}/{path}"


def option_words(platform: Platform, facts: Facts) -> tuple[str, ...]:
    """`ssh_options` as words: `Key=Value` becomes `-o Key=Value`, what begins with `-` is taken as it is, with the next item
    where it wants a value (`-F`, FILE). `~` and `$NAME` expand.

    Raises DefinitionError for what decides where words go, and for what switches the check of host keys off.
    """
    option = platform.find("ssh_options")
    if option is None or option.value in (None, ""):
        return ()
    items = option.value if isinstance(option.value, list) else [option.value]
    texts = [scalar(option, item) for item in items]
    rest = [text if option.secret else expand(option, text, "", facts) for text in texts]
    words: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words += _setting(option, word)
            continue
        letter, value = _letter(option, word)
        if letter and not value:
            if not rest:
                raise refuse(option, f"'{word}' wants a value", "give it as the next item of the list")
            value = rest.pop(0)
            words += [word, _found(letter, value, facts)] if letter != "o" else _setting(option, value, word)
        elif letter == "o":
            words += _setting(option, value)
        else:
            words.append(word.removesuffix(value) + _found(letter, value, facts))
    return tuple(words)


def _found(letter: str, value: str, facts: Facts) -> str:
    """The value; of `-F` a whole path, since later commands of the same run may be given in another directory."""
    named = letter == "F" and value not in ("none", "") and not value.startswith("/")
    return f"{facts.cwd.rstrip('/')}/{value}" if named else value


def _letter(option: Option, word: str) -> tuple[str, str]:
    """The letter of a word that takes a value, and the value as far as it stands there; empty for switches. Refuses ours."""
    if word.startswith("--") or len(word) < 2:
        raise refuse(option, f"ssh has no option '{word}'", "write settings as Key=Value, such as ForwardAgent=no")
    for place, letter in enumerate(word[1:], 2):
        if letter in _LETTERS_OF_OURS:
            raise refuse(option, f"'-{letter}' is not for you to give: it decides where words and answers go",
                         _instead(_LETTERS_OF_OURS[letter]))
        if letter in _WITH_VALUE:
            return letter, word[place:]
    return "", ""


def _setting(option: Option, text: str, first: str = "-o") -> list[str]:
    """`Key=Value` as words of ssh. Raises DefinitionError."""
    name = re.split(r"[\s=]", text.strip(), maxsplit=1)[0]
    if name == text.strip() or "\n" in text:
        raise refuse(option, f"{text!r} says no setting of ssh", "write Key=Value, such as ForwardAgent=no")
    if name.lower() in _NAMES_OF_OURS:
        raise refuse(option, f"'{name}' is not for you to give: it decides where words and answers go",
                     _instead(_NAMES_OF_OURS[name.lower()]))
    if _NO_CHECK.search(text.strip()):
        raise refuse(option, f"'{text}' switches the check of host keys off", "write host_key: accept-new, which takes the key "
                     "of a host that was never seen")
    return [first, text]


def _instead(name: str) -> str:
    return f"the platform's option {name} says it" if name else "what ssh needs otherwise can stand in your ~/.ssh/config"


def identity_words(path: str) -> tuple[str, ...]:
    """The words that name a private key. `-i` takes no file whose name has a `%` ([tried]: OpenSSH 9.2)."""
    return ("-o", f"IdentityFile={ssh_value(path)}") if path else ()
