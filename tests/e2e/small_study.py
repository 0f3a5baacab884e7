"""A whole study that takes seconds: a tiny random model, 60 questions with a rule behind them, the real command line."""
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

TOWNS = ("Basel", "Chur", "Davos", "Genf", "Olten", "Thun", "Uster", "Visp", "Wil", "Zug", "Aarau", "Bern")
ASKED = ("the people of {}", "the rivers of {}", "the height of {}", "the mayor of {}", "a map of {}", "the age of {}", "a hotel in {}")
SCHEMA = "# Towns\nA town has people, rivers, a height, a mayor and an age.\n\n# Maps\nA map shows one town.\n"

STUDY = """\
name = "small"
task = "Questions to [queries] of one word each"
why = "to test the way from data to verdict"
arms = ["base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval"]

[data]
files = ["rows.jsonl"]
labelled_by = "a rule"
mapping = { input = "nl", output = "query" }

[split]
test_files = ["held_out.jsonl"]
validation = 0.15
part = "part"

[prompt]
file = "prompt.md"

[few_shot]
k = 2

[retrieval]
documents = ["schema/*.md"]
k = 1
chunk_words = 20
embedding = EMBEDDING

[model]
base = MODEL
max_output_tokens = 6
batch_size = 16

[training]
contexts = ["plain", "prompt+retrieval"]

[training.method]
kind = "lora"
rank = 2

[training.hyperparameters]
n_epochs = 2
batch_size = 8
learning_rate = 0.01

[[graders]]
name = "same"
type = "normalised"

[[graders]]
name = "chrf"
type = "chrf"

[goal]
grader = "chrf"
at_least = 0.5
not_worse = ["same"]

[measure]
latency_requests = 2
bootstrap = 200
"""


def rows(first: int, n: int, part: str = "") -> list[dict[str, str]]:
    """Rows `first` to `first + n` of an endless list of different questions; every third asks about `height`."""
    made = []
    for i in range(first, first + n):
        town, asked = TOWNS[i % len(TOWNS)], ASKED[i // len(TOWNS) % len(ASKED)]
        row = {"nl": f"Show {asked.format(town)}, please", "query": f"GET {asked.split()[1]} {town}"}
        made.append(row | ({"part": part or ("ordinary" if i % 3 else "odd")}))
    return made


def write_rows(path: Path, given: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def make_study(folder: Path, model: Path | str, encoder: Path, *changes: tuple[str, str]) -> Path:
    """The study file in `folder`, with texts in it replaced; and its data, prompt and documents."""
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl", rows(0, 48))
    write_rows(folder / "held_out.jsonl", rows(48, 30))
    (folder / "prompt.md").write_text("Answer with GET and two words.\n", encoding="utf-8")
    (folder / "schema" / "towns.md").write_text(SCHEMA, encoding="utf-8")
    text = STUDY
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    text = text.replace("= MODEL", f"= {json.dumps(str(model))}").replace("= EMBEDDING", f"= {json.dumps(str(encoder))}")
    file = folder / "study.toml"
    file.write_text(text, encoding="utf-8")
    return file


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "feinschliff.cli.main", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    """No colours, wide lines, no way to a hub or a package index."""
    shut = {"HF_HUB_OFFLINE": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_NO_INPUT": "1"}
    return os.environ | {"COLUMNS": "160", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"} | shut | more


def feinschliff(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end; nobody sits at its stdin."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip


def start(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    """Start the real command in a process group of its own."""
    return subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
    )  # fmt: skip


def children_of(pid: int) -> list[int]:
    """Direct children; they live in sessions of their own."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def kill_family(pid: int) -> None:
    """A process and all that it started, at once, as when a machine or container goes."""
    family = [pid, *children_of(pid)]
    for member in family:
        os.kill(member, signal.SIGKILL)


def without_clocks(report: dict[str, object]) -> dict[str, object]:
    """The report but for what differs between two runs of the same study: times, and the memory of the last process."""
    clocks = {"created_at", "timings_s", "latency_ms", "answering_seconds", "seconds", "peak_memory_bytes"}

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k not in clocks}
        return [clean(v) for v in value] if isinstance(value, list) else value

    cleaned = clean(report)
    assert isinstance(cleaned, dict)
    return cleaned


def mtimes(folder: Path, pattern: str = "**/*") -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.glob(pattern)) if p.is_file()}
