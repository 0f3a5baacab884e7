"""The results as the table of docs/serving.md: `python benchmarks/serving/table.py [FILE]`. Medians, least and most in brackets."""
import json
import sys
from pathlib import Path
from typing import Any

DIGITS = {
    "first_uncached_s": 2, "first_cached_s": 2, "alone_tokens_per_s": 0, "together_tokens_per_s": 0, "together_first_s": 2,
}  # fmt: skip


def row(name: str, mix: str, found: dict[str, Any]) -> str:
    if "summary" not in found:
        return f"| {name} | {mix} | not run: {found.get('not run', found.get('reason', ''))} | | | | |"
    cells = [
        f"{found['summary'][k]['median']:.{n}f} ({found['summary'][k]['min']:.{n}f}–{found['summary'][k]['max']:.{n}f})"
        for k, n in DIGITS.items()
    ]
    return f"| {name} | {mix} | {' | '.join(cells)} |"


def main() -> None:
    default = Path(__file__).resolve().parents[1] / "results" / "serving.json"
    document = json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else default).read_text(encoding="utf-8"))
    print("| | | first token, uncached, s | cached, s | tokens/s alone | tokens/s of 16 | first token of 16, s |\n|---|---|---|---|---|---|---|")
    for name, system in document["systems"].items():
        for mix in ("base", "adapters"):
            print(row(name, mix, system.get(mix, system)))


if __name__ == "__main__":
    main()
