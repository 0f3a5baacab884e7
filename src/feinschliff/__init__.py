"""Feinschliff: supervised fine-tuning of language models, from the question whether to, to a measured model."""
from importlib.metadata import version

__version__ = version("feinschliff")
