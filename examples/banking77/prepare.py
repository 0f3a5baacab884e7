"""Prepares the BANKING77 study: training messages, a test of the same number for each intent, and a prompt with all labels.

python examples/banking77/prepare.py [--data DIR] [--out DIR] [--per-intent 4]

Reads `banking77_train.jsonl` and `banking77_test.jsonl` (fields `text` and `category`) from DIR.
The folder is built beside its place and renamed when it is complete, so a killed run leaves nothing half-built.
"""
import argparse
import json
import random
import shutil
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED_DATA = HERE.parents[2] / "shared" / "data"  # beside the repository
SOURCES = {"train": "banking77_train.jsonl", "test": "banking77_test.jsonl"}
PROMPT = """Name the intent of the customer's message. Answer with exactly one of these labels and nothing else:

{labels}
"""


def prepare(data: Path, out: Path, per_intent: int, seed: int = 0) -> tuple[int, int]:
    """Writes the study's folder `out` and returns how many test messages and intents there are."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    partial.mkdir(parents=True)
    shutil.copyfile(data / SOURCES["train"], partial / "train.jsonl")
    intents: defaultdict[str, list[str]] = defaultdict(list)
    for line in (data / SOURCES["test"]).read_text("utf-8").splitlines():
        intents[str(json.loads(line)["category"])].append(line)
    rng = random.Random(seed)
    chosen = [line for name in sorted(intents) for line in rng.sample(intents[name], min(per_intent, len(intents[name])))]
    (partial / "test.jsonl").write_text("\n".join(chosen) + "\n", "utf-8")
    (partial / "prompt.md").write_text(PROMPT.format(labels="\n".join(sorted(intents))), "utf-8")
    _put_in_place(partial, out)
    return len(chosen), len(intents)


def _put_in_place(partial: Path, out: Path) -> None:
    old = out.with_name(out.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Prepare the BANKING77 study.")
    parser.add_argument("--data", type=Path, default=SHARED_DATA, help="folder with the published files")
    parser.add_argument("--out", type=Path, default=HERE / "data")
    parser.add_argument("--per-intent", type=int, default=4, help="test messages for each intent (at most 40)")
    options = parser.parse_args(arguments)
    if options.per_intent < 1:
        parser.error("--per-intent must be at least 1")
    missing = [name for name in SOURCES.values() if not (options.data / name).is_file()]
    if missing:
        print(f"{options.data} has no {', '.join(missing)}", file=sys.stderr)
        print("hint: give the folder that holds the published files with --data", file=sys.stderr)
        return 2
    try:
        n_test, n_intents = prepare(options.data, options.out, options.per_intent)
    except OSError as error:
        print(f"banking77: {error}", file=sys.stderr)
        return 1
    print(f"banking77: {n_test:,} test messages over {n_intents} intents → {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
