"""Many more of the cubes of tests/unit/test_fuzz.py: about ten minutes of them; MLCUBE_FUZZ_FIRST says from which seed on."""

from __future__ import annotations

import os

import pytest

from tests.unit.test_fuzz import MEGABYTES, child

pytestmark = pytest.mark.stress

EACH = 500
FIRST = int(os.environ.get("MLCUBE_FUZZ_FIRST", "1000"))


@pytest.mark.parametrize("number", range(20))
def test_changed_definitions_and_random_trees(number: int) -> None:
    used = child(FIRST + number * EACH, FIRST + (number + 1) * EACH, 600)
    assert used["megabytes"] < MEGABYTES
