"""Makes the atlas example: graph, schema documents, training pairs and test pairs, from packages alone.

python examples/atlas/make.py [--out examples/atlas/data] [--seed 0]

The same packages and the same seed give the same bytes. The folder is built beside its place and renamed when it is
complete, so a killed run leaves nothing half-built. Needs `pip install 'feinschliff[atlas,graph]'`.
"""
import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas_pairs import Pair

HERE = Path(__file__).resolve().parent


def make(out: Path, seed: int) -> Counter[str]:
    """Writes the example into `out` and returns how many pairs each part has."""
    from atlas_documents import schema_documents
    from atlas_engine import Ladybug
    from atlas_facts import load_atlas, write_atlas
    from atlas_pairs import Generator

    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    (partial / "schema").mkdir(parents=True)
    atlas = load_atlas()
    write_atlas(atlas, partial)
    for name, text in schema_documents(atlas).items():
        (partial / "schema" / name).write_text(text, "utf-8")
    pairs: list[Pair] = []
    for pair in Generator(atlas, Ladybug(partial), seed).pairs():
        pairs.append(pair)
        if len(pairs) % 50 == 0 and sys.stderr.isatty():
            print(f"\ratlas: {len(pairs):,} pairs", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    _write_jsonl(partial / "train.jsonl", (p for p in pairs if p.part == "train"))
    _write_jsonl(partial / "test.jsonl", (p for p in pairs if p.part != "train"))
    _put_in_place(partial, out)
    return Counter(p.part for p in pairs)


def _write_jsonl(path: Path, pairs: "Iterable[Pair]") -> None:
    rows = ({"question": p.question, "gql": p.gql, "template": p.template, "part": p.part} for p in pairs)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(out.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the atlas example.")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    print("atlas: graph, documents and question → GQL pairs …", flush=True)
    try:
        counts = make(options.out, options.seed)
    except ModuleNotFoundError as error:
        print(f"atlas: the package '{error.name}' is not installed", file=sys.stderr)
        print("hint: pip install 'feinschliff[atlas,graph]'", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"atlas: cannot write {options.out}: {error}", file=sys.stderr)
        return 1
    parts = ", ".join(f"{n:,} {part}" for part, n in counts.items())
    print(f"atlas: {parts} → {options.out} ({time.perf_counter() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
