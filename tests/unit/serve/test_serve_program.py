"""`python -m feinschliff.serve` as a child process: one JSON object a line, in and out."""
import pytest

from feinschliff.compute import process
from feinschliff.core.chat import user
from feinschliff.core.engine import (
    RESPONSE,
    Embed,
    Generate,
    Progress,
    Ready,
    Refused,
    Replies,
    Sampling,
    Vectors,
)


def talk(folder, log, lines, *options):
    child = process.start("feinschliff.serve", [str(folder), *options], log, talk=True)
    try:
        out, _ = child.communicate("".join(f"{line}\n" for line in lines), timeout=120)
    finally:
        process.stop(child)
    return [RESPONSE.validate_json(line) for line in out.splitlines()], child.returncode


def test_chat_program(tiny_model, tmp_path):
    short = Sampling(max_tokens=5)
    chats = ((user("How many?"),), (user("Where?"),))
    good = Generate(id=1, conversations=chats, sampling=short, slots=1).model_dump_json()
    long = Generate(id=2, conversations=((user("long " * 300),),), sampling=short).model_dump_json()
    wrong = Embed(id=3, texts=("a",)).model_dump_json()
    lines = [good, long, wrong, "{not json", good]
    said, code = talk(tiny_model, tmp_path / "log.txt", lines)
    assert code == 0  # ends when its stdin does
    assert said[0] == Ready()
    assert [s.done for s in said if isinstance(s, Progress)] == [1, 2, 1, 2]
    assert [(s.id, s.code) for s in said if isinstance(s, Refused)] == [(2, "bad_data"), (3, "bad_request"), (0, "bad_request")]
    first, last = (s for s in said if isinstance(s, Replies))
    assert first.replies == last.replies
    assert len(first.replies) == 2
    assert said[-1] == last


def test_embedding_program(tiny_encoder, tmp_path):
    lines = [Embed(id=1, texts=("a", "b c")).model_dump_json(), Generate(id=2, conversations=()).model_dump_json()]
    said, code = talk(tiny_encoder, tmp_path / "log.txt", lines, "--embedding")
    assert code == 0
    ready, vectors, refused = said
    assert ready == Ready()
    assert isinstance(vectors, Vectors)
    assert [sum(x * x for x in v) for v in vectors.vectors] == pytest.approx([1.0, 1.0], rel=1e-4)
    assert isinstance(refused, Refused)
