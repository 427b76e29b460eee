"""Read, validate, describe and run machine-learning cubes."""

__version__ = "0.1.0"
