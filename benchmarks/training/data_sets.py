"""The benchmark's data sets as chat files: two made ones, and four of real data where they lie beside the repository."""
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import synthetic
from synthetic import Turn

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
N_ROWS = 512  # per data set; a run takes the first ones


class Absent(Exception):
    """The data set's source file is not on this machine."""


def write(name: str, folder: Path, n: int = N_ROWS, longest_text: int | None = None) -> Path:
    """Write data set `name` once as `folder/name-n.jsonl`, one chat a line.

    `longest_text` cuts every turn to so many characters: for a smoke test. Raises Absent where the source is missing.
    """
    path = folder / f"{name}-{n}{f'-{longest_text}' if longest_text else ''}.jsonl"
    if path.exists():
        return path
    rows = [[(role, text[:longest_text]) for role, text in row] for row in _take(DATA_SETS[name](), n)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"messages": [{"role": role, "content": text} for role, text in row]} for row in rows]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def _take(rows: Iterator[list[Turn]], n: int) -> list[list[Turn]]:
    return [row for _, row in zip(range(n), rows, strict=False)]


def zograscope(file: str = "zograscope_train.jsonl") -> Iterator[list[Turn]]:
    """Questions over a crime graph → ISO GQL, with the schema prompt of examples/zograscope."""
    prompt = (ROOT / "examples" / "zograscope" / "prompt.md").read_text(encoding="utf-8").strip()
    for row in _rows(file):
        yield [("system", prompt), ("user", row["nl"]), ("assistant", row["mr"])]


def _banking77() -> Iterator[list[Turn]]:
    """Bank customers' messages → one of 77 intents. The published file is sorted by intent: read it with a stride."""
    rows = list(_rows("banking77_train.jsonl"))
    for i in range(len(rows)):
        row = rows[i * 131 % len(rows)]
        yield [("system", "Name the intent of the bank customer's message."), ("user", row["text"]), ("assistant", row["category"])]


def _gsm8k() -> Iterator[list[Turn]]:
    """School mathematics with worked answers."""
    for row in _rows("gsm8k_train.jsonl"):
        yield [("user", row["question"]), ("assistant", row["answer"])]


def _tools() -> Iterator[list[Turn]]:
    """Conversations of several turns with tool calls; the template has no place for tools, so they stand in the system text."""
    roles = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "user"}
    for row in json.loads(_source("raw_formats/glaive_toolcall_en_demo.json").read_text(encoding="utf-8")):
        system = "Call a tool as <tool_call>{name, arguments}</tool_call> when it helps. Tools: " + (row["tools"] or "[]")
        turns = [("system", system)]
        for turn in row["conversations"]:
            wrap = {"function_call": "<tool_call>{}</tool_call>", "observation": "<tool_response>{}</tool_response>"}
            turns.append((roles[turn["from"]], wrap.get(turn["from"], "{}").format(turn["value"])))
        if turns[-1][0] == "assistant":
            yield turns


def _rows(file: str) -> Iterator[dict[str, str]]:
    with _source(file).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _source(file: str) -> Path:
    path = SHARED / file
    if not path.is_file():
        raise Absent(f"{file} is not in {SHARED}")
    return path


DATA_SETS: dict[str, Callable[[], Iterator[list[Turn]]]] = {
    "S": lambda: synthetic.shared_prompt(N_ROWS),
    "D": lambda: synthetic.separate(N_ROWS),
    "zograscope": zograscope,
    "banking77": _banking77,
    "gsm8k": _gsm8k,
    "tools": _tools,
}
