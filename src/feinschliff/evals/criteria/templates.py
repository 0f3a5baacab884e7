"""`{{ item.question }}` and `{{ sample.output_text }}`: names in double braces, filled in from an item and a model's sample."""
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from feinschliff.evals.criteria.failed import NotGraded

Variables = Mapping[str, Any]  # "item" and "sample": JSON of the client's own making
SPOT = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)
PATH = re.compile(r"(?:item|sample)(?:\.[^.\[\]{}\s]+|\[\d+\])*")
STEP = re.compile(r"[^.\[\]]+")


def filled(template: str, variables: Variables) -> str:
    """The text with every name replaced; what is no text is written as JSON. Raises NotGraded for a name that stands for nothing."""
    return SPOT.sub(lambda spot: _text(looked_up(spot[1], variables)), template)


def looked_up(path: str, variables: Variables) -> object:
    """What `item.a.b` or `item.list[0].c` stands for. Raises NotGraded."""
    at: object = variables
    for step in STEP.findall(path):
        if isinstance(at, Mapping) and step in at:
            at = at[step]
        elif isinstance(at, Sequence) and not isinstance(at, str) and step.isdigit() and int(step) < len(at):
            at = at[int(step)]
        else:
            raise NotGraded("invalid_variable_error", f"{{{{ {path} }}}} stands for nothing: there is no {step!r}.")
    return at


def bad_names(template: str) -> list[str]:
    """The names that can stand for nothing, whatever the item: those that do not begin with `item` or `sample`."""
    return [name for name in SPOT.findall(template) if not PATH.fullmatch(name)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
