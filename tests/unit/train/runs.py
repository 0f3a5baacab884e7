"""Small training runs: a folder with a spec and a file of chats that a tiny model learns in seconds."""
import json
from pathlib import Path

from feinschliff.core.chat import Rendered
from feinschliff.core.jobs import Hyperparameters, Lora, Step, TrainSpec
from feinschliff.train.events import EventLog

CITIES = ["Basel", "Bern", "Chur", "Genf", "Lugano", "Luzern", "Thun", "Zug", "Aarau", "Baden", "Olten", "Wil"]


def write_chats(path: Path, rows: list[list[tuple[str, str]]]) -> Path:
    lines = [{"messages": [{"role": r, "content": c} for r, c in row]} for row in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def chats(context: str = "Answer with a query over the graph of people and the cities that they live in.") -> list[list[tuple[str, str]]]:
    return [
        [("system", context), ("user", f"People in {c}?"), ("assistant", f"MATCH (p)-[:IN]->(c {{n: '{c}'}}) RETURN p")]
        for c in CITIES
    ]


def make_run(folder: Path, model: Path, **changes: object) -> tuple[Path, TrainSpec]:
    """A run folder ready for the program, and its spec. 12 examples, 3 steps an epoch, 4 epochs unless changed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_chats(folder / "train.jsonl", chats())
    spec = TrainSpec(
        model=str(model), train_files=("train.jsonl",), method=Lora(rank=4, alpha=8), precision="fp32", device="cpu",
        hyperparameters=Hyperparameters(n_epochs=4, batch_size=4, learning_rate=0.02), save_every_steps=2,
        budget_tokens=8192, gradient_checkpointing=False,  # measuring the model would take longer than training it
    ).model_copy(update=changes)  # fmt: skip
    (folder / "spec.json").write_text(spec.model_dump_json(), encoding="utf-8")
    return folder, spec


def contrary() -> list[list[tuple[str, str]]]:
    """Chats whose loss falls while the form is learnt, and rises once the training answers are: each names another city."""
    rows = chats()
    return [[*row[:2], other[2]] for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]


def steps(folder: Path) -> list[Step]:
    return [e for e in EventLog(folder / "events.jsonl", writes=False).read() if isinstance(e, Step)]


def result(folder: Path, name: str = "adapter_model.safetensors") -> bytes:
    return (folder / "model" / name).read_bytes()


def small_examples() -> list[Rendered]:
    """Six examples with 50 tokens in common and answers of different length."""
    return [Rendered([*range(5, 60), 70 + i, *range(100, 110 + i)], [0.0] * 50 + [1.0] * (16 + i)) for i in range(6)]
