"""Read, validate, describe and run machine-learning cubes."""

__version__ = "0.1.0"

# What type checkers take as true. `from typing import TYPE_CHECKING` would cost every start half an interpreter.
TYPE_CHECKING = False
