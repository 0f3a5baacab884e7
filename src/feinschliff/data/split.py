"""Train / validation / test: by hash, so that an example stays in its part when others are added."""
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.core.chat import Example
from feinschliff.core.errors import BadData
from feinschliff.core.study import Split
from feinschliff.data.convert import to_jsonl
from feinschliff.data.files import write_atomically
from feinschliff.data.leakage import Leakage, find_leaks
from feinschliff.data.problems import did_you_mean


@dataclass(frozen=True, slots=True)
class Parts:
    """The three parts. `leakage` is what was found between train + validation and test; with
    `leaks = "drop_from_train"` its rows are already gone from train and validation, never from test.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    leakage: Leakage
    n_dropped: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """A part on disk; `sha256` of its bytes."""

    path: Path
    n: int
    sha256: str


def split(examples: Sequence[Example], spec: Split, held_out: Sequence[Example] | None = None) -> Parts:
    """Parts `examples` by hash of (seed, group value or example id). A given `held_out` set is the test part, unaltered.

    Fractions are met on average, because a row's part may not depend on the other rows; a part with a fraction above
    zero gets at least one row or group. Raises BadData where the group field is missing or nothing is left to train on.
    """
    share_test = 0.0 if held_out is not None else spec.test
    keys = [_key(example, spec.group) for example in examples]
    part_of = _assign(sorted(set(keys)), spec.seed, share_test, spec.validation)
    parts: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example, key in zip(examples, keys, strict=True):
        parts[part_of[key]].append(example)
    test = tuple(held_out) if held_out is not None else tuple(parts["test"])
    leakage = find_leaks([*parts["train"], *parts["validation"]], test, threshold=spec.near_duplicate)
    dropped = leakage.leaked_ids if spec.leaks == "drop_from_train" else frozenset()
    train = tuple(e for e in parts["train"] if e.id not in dropped)
    validation = tuple(e for e in parts["validation"] if e.id not in dropped)
    if not train:
        raise BadData(
            f"Nothing is left to train on: of {len(examples)} examples {len(test)} are held out, and {leakage.n_leaked} of the others leak.",
            hint="Add examples, or make `test` and `validation` smaller.",
        )
    n_dropped = len(parts["train"]) + len(parts["validation"]) - len(train) - len(validation)
    return Parts(train, validation, test, leakage, n_dropped)


def take(examples: Sequence[Example], n: int, seed: int) -> tuple[Example, ...]:
    """`n` examples by the order of their hashes, returned in file order: a sample that stays put when rows are added."""
    chosen = set(sorted(range(len(examples)), key=lambda i: (_position(examples[i].id, seed), i))[:n])
    return tuple(example for i, example in enumerate(examples) if i in chosen)


def share_of(examples: Sequence[Example], share: float, seed: int, group: str | None) -> tuple[Example, ...]:
    """Whole groups (or rows) in the order of their hashes, until they are that share of the rows; returned in file order.

    Of one seed, a smaller share lies within a larger one.
    """
    keys = [_key(example, group) for example in examples]
    sizes, wanted = Counter(keys), share * len(examples)
    chosen: set[str] = set()
    n = 0
    for key in sorted(set(keys), key=lambda key: (_position(f"share\0{key}", seed), key)):
        if n >= wanted:
            break
        chosen.add(key)
        n += sizes[key]
    return tuple(example for example, key in zip(examples, keys, strict=True) if key in chosen)


def freeze(folder: Path, parts: Parts) -> dict[str, Frozen]:
    """Writes train.jsonl, validation.jsonl and test.jsonl, each in one step. Raises BadData where it cannot."""
    frozen: dict[str, Frozen] = {}
    for name, examples in (("train", parts.train), ("validation", parts.validation), ("test", parts.test)):
        data = to_jsonl(examples)
        path = folder / f"{name}.jsonl"
        write_atomically(path, data)
        frozen[name] = Frozen(path, len(examples), hashlib.sha256(data).hexdigest())
    return frozen


def _key(example: Example, group: str | None) -> str:
    if group is None:
        return example.id
    if group not in example.meta:
        raise BadData(
            f"Line {example.line} has no field {group!r} to group by.", hint=did_you_mean(group, tuple(example.meta))
        )
    return f"{group}={example.meta[group]!r}"


def _position(key: str, seed: int) -> float:
    """In [0, 1): the first 8 bytes of a SHA-256."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _assign(keys: Sequence[str], seed: int, test: float, validation: float) -> dict[str, str]:
    """Key → part. [0, test) is test, [test, test + validation) validation, the rest train."""
    if test + validation >= 1:
        raise BadData(f"test {test} + validation {validation} leave nothing to train on.", hint="Make them smaller.")
    ordered = sorted(keys, key=lambda key: (_position(key, seed), key))
    part_of: dict[str, str] = {}
    for key in ordered:
        at = _position(key, seed)
        part_of[key] = "test" if at < test else "validation" if at < test + validation else "train"
    if test and ordered and "test" not in part_of.values():
        part_of[ordered[0]] = "test"
    if validation and len(ordered) > 2 and "validation" not in part_of.values():
        part_of[next(key for key in ordered if part_of[key] == "train")] = "validation"
    return part_of
