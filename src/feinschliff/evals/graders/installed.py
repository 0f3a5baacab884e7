"""Optional packages are looked for when a study is read, not when its first reply is graded."""

import importlib.util

from feinschliff.core.errors import MissingExtra


def need(package: str, *, feature: str) -> None:
    """Raise MissingExtra where `package` is not installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(package, extra="graph", feature=feature)
