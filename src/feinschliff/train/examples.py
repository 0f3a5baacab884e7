"""Training files into rendered examples, with what cannot be trained named."""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.core.chat import Rendered
from feinschliff.core.errors import BadData, TrainingFailed
from feinschliff.data.read import load as read_chats
from feinschliff.data.render import Renderer


@dataclass(frozen=True, slots=True)
class Loaded:
    """Row-aligned variants of the usable examples, and the lines left out because they are too long in some variant."""

    variants: tuple[tuple[Rendered, ...], ...]
    too_long: tuple[int, ...]


def load(files: Sequence[Path], renderer: Renderer, max_tokens: int) -> Loaded:
    """Render every line of every file; over-long lines are counted and named, never cut.

    Raises BadData where the files differ in length, TrainingFailed where nothing is left to learn from.
    """
    rendered = {path: _render_file(path, renderer) for path in set(files)}
    variants = [rendered[path] for path in files]
    lengths = {len(v) for v in variants}
    if len(lengths) != 1:
        raise BadData(f"The training files have different numbers of lines: {sorted(lengths)}.")
    n = lengths.pop()
    too_long = [i for i in range(n) if any(len(r.tokens) > max_tokens for v in variants for r in v[i])]
    dropped = set(too_long)
    kept = [i for i in range(n) if i not in dropped]
    # A template that rewrites history gives several rendered examples a line; variants stay aligned by taking the fewest.
    flat = tuple(tuple(r for i in kept for r in v[i][: min(len(w[i]) for w in variants)]) for v in variants)
    if not any(r.n_trained for v in flat for r in v):
        raise TrainingFailed(
            "There is nothing to learn: no example has a trained token.",
            hint="Check the roles, the `weight` fields and max_tokens with `feinschliff data check FILE --model MODEL`.",
        )
    return Loaded(flat, tuple(i + 1 for i in too_long))


def _render_file(path: Path, renderer: Renderer) -> list[tuple[Rendered, ...]]:
    return [renderer.render(example) for example in read_chats(path, "chat")]
