"""What goes into an image that a recipe describes, as a digest that the image keeps as a label (RULINGS 15)."""

from __future__ import annotations

import os

from mlcube_cli.facts import Facts
from mlcube_cli.job import Job

INPUTS_LABEL = "org.mlcommons.mlcube.recipe"


def recipe_digest(job: Job, facts: Facts, recipe: str, context: str, words: tuple[str, ...]) -> str:
    """`sha256:HEX` over the recipe, the files that it copies, and the words of the build; "" where there are too many.

    `words`: the build's arguments. The image itself may differ from build to build. Raises facts.Missing.
    """
    import hashlib

    sources = copied_files(facts.text(recipe) or b"")
    paths = (recipe, *(os.path.normpath(os.path.join(context, source)) for source in sources))
    tree = facts.digest(paths, exclude=tuple(dict.fromkeys((job.workspace, os.path.join(job.root, "workspace")))))
    if tree is None:
        return ""
    text = "\0".join((tree, *words))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def copied_files(recipe: bytes) -> tuple[str, ...]:
    """What a recipe takes from this machine, relative to where it is built: `%files`, `From:` of a local image, and all
    (".") where it has a `%setup`, which runs here (https://apptainer.org/docs/user/main/definition_files.html)."""
    found: list[str] = []
    section, local = "", False
    for line in recipe.decode("utf-8", "surrogateescape").splitlines():
        line = line.strip()
        key, colon, value = line.partition(":")
        if line.startswith("%"):
            section = line.lower()
            found += ["."] if section.split()[0] == "%setup" else []
        elif not section and colon and key.strip().lower() == "bootstrap":
            local = value.strip().lower() == "localimage"
        elif not section and colon and key.strip().lower() == "from" and local:
            found.append(value.strip())
        elif section == "%files" and line and not line.startswith("#"):
            found.append(_first_word(line))
    return tuple(dict.fromkeys(source for source in found if source))


def _first_word(line: str) -> str:
    """The source of a `%files` line, up to the first component with a wildcard."""
    import shlex

    try:
        word = next(iter(shlex.split(line)), "")
    except ValueError:  # quotes that do not close
        word = line.split()[0]
    parts: list[str] = []
    for part in word.split("/"):
        if any(char in part for char in "*?[{"):
            break
        parts.append(part)
    return "/".join(parts) or "."
