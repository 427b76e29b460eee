"""The tree of docs/architecture.md is the tree there is."""

from __future__ import annotations

import re

from tests.conftest import CHECKOUT

TREE = (CHECKOUT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
WORDS = set(re.findall(r"\w+", TREE))
MODULES = {path.stem for folder in ("mlcube_cli", "runners/shell/mlcube_shell") for path in (CHECKOUT / folder).rglob("*.py")}


def test_every_module_is_in_the_tree() -> None:
    # `singularity_engine, _image` in the tree stands for two modules
    assert {name for name in MODULES if name not in WORDS and f"_{name.partition('_')[2]}" not in WORDS} == set()


def test_every_file_of_the_tree_is_there() -> None:
    assert set(re.findall(r"\b(\w+)\.py\b", TREE)) - MODULES == set()
