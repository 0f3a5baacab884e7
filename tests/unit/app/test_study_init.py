import json
import tomllib
from pathlib import Path

import pytest

from feinschliff.app.study_file import load_study
from feinschliff.app.study_guess import propose
from feinschliff.app.study_init import study_init
from feinschliff.core.chat import Example, FunctionCall, Message, ToolCall, assistant, user
from feinschliff.core.errors import BadData, BadStudy


def rows_file(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


ANSWERS = {
    "label": ["card lost", "card stolen"],
    "json_fields": ['{"a": 1}', '{"b": [2]}', "[3]"],
    "normalised": ["MATCH (n)\nRETURN n", "match (a)-[e]->(b) return count(*) AS n"],
    "chrf": [f"a free text about {i}, of some words and more" for i in range(12)],
}


@pytest.mark.parametrize("goal", list(ANSWERS))
def test_graders_fit_the_answers_and_the_file_loads(tmp_path: Path, goal: str) -> None:
    answers = ANSWERS[goal]
    rows: list[dict[str, object]] = [{"id": i, "nl": f"q{i}", "mr": answers[i % len(answers)]} for i in range(24)]
    out = tmp_path / "studies" / "STUDY.toml"
    study_init(rows_file(tmp_path / "data" / "my pairs.jsonl", rows), out)

    study = load_study(out)
    assert study.name == "my-pairs"
    assert study.data.files == ("../data/my pairs.jsonl",)
    assert study.data.mapping is not None
    assert (study.data.mapping.input, study.data.mapping.output) == ("nl", "mr")
    assert study.goal.grader == study.graders[0].name == goal


def test_a_chat_file_needs_no_mapping(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    guessed = study_init(rows_file(tmp_path / "c.jsonl", [chat]), tmp_path)  # a folder takes STUDY.toml
    assert guessed.format == load_study(tmp_path / "STUDY.toml").data.format == "chat"
    assert "[data.mapping]" not in (tmp_path / "STUDY.toml").read_text(encoding="utf-8")


def test_tool_calls_and_the_types_that_are_proposed_exist() -> None:
    call = ToolCall(function=FunctionCall(name="f", arguments="{}"))
    called = Example(messages=(user("q"), Message(role="assistant", tool_calls=(call,))))
    proposed = {p.type for p in propose([called])}
    assert proposed == {"tool_call"}
    for answer in ("[1]", "match (n) return n", "select 1 from t", "a label", "a text that is far too long for a label"):
        proposed |= {p.type for p in propose([Example(messages=(user("q"), assistant(answer)))] * 9)}
    pyproject = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    assert proposed <= set(pyproject["project"]["entry-points"]["feinschliff.graders"])
    assert len(proposed) == 8


def test_every_ready_line_left_to_the_user_is_a_marked_question(tmp_path: Path) -> None:
    study_init(rows_file(tmp_path / "c.jsonl", [{"question": "q", "answer": "a"}]), tmp_path / "S.toml")
    lines = (tmp_path / "S.toml").read_text(encoding="utf-8").splitlines()
    todo = [i for i, line in enumerate(lines) if "TODO" in line]
    assert len(todo) == 3  # task, why, prompt
    assert all(lines[i - 1].startswith("# ?") for i in todo)


def test_hostile_field_and_file_names_stay_inside_their_quotes(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{'a "b\n\x7f': f"question {i} of some length", "c\\": f"answer {i}"} for i in range(9)]
    study_init(rows_file(tmp_path / 'x"\n[y].jsonl', rows), tmp_path / "S.toml")
    study = load_study(tmp_path / "S.toml")
    assert study.data.mapping is not None
    assert {study.data.mapping.input, study.data.mapping.output} == {'a "b\n\x7f', "c\\"}


def test_nothing_is_overwritten_and_nothing_is_written_for_a_file_without_examples(tmp_path: Path) -> None:
    data = rows_file(tmp_path / "c.jsonl", [{"question": "q", "answer": "a"}])
    out = tmp_path / "S.toml"
    out.write_text("mine", encoding="utf-8")
    with pytest.raises(BadStudy, match="exists already"):
        study_init(data, out)
    assert out.read_text(encoding="utf-8") == "mine"
    with pytest.raises(BadData, match="no question and answer"):
        study_init(rows_file(tmp_path / "d.jsonl", [{"x": 1}]), tmp_path / "T.toml")
    assert not (tmp_path / "T.toml").exists()
