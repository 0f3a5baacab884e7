"""Every format, and files as they really come: broken lines, encodings, dialects."""
import json
from pathlib import Path

import pytest

from feinschliff.core.errors import BadData
from feinschliff.core.study import Mapping
from feinschliff.data.convert import to_jsonl
from feinschliff.data.read import load, read

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}


def write(tmp_path: Path, name: str, data: object) -> Path:
    path = tmp_path / name
    if isinstance(data, bytes):
        path.write_bytes(data)
    elif isinstance(data, str):
        path.write_bytes(data.encode())
    else:
        path.write_text(json.dumps(data), encoding="utf-8")
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def codes(path: Path, **options: object) -> list[tuple[int, str]]:
    return [(f.line, f.code) for f in read(path, **options).findings]


def test_bom_crlf_and_blank_lines_are_no_problem(tmp_path):
    data = b"\xef\xbb\xbf" + lines(CHAT, CHAT).replace("\n", "\r\n\r\n").encode()
    result = read(write(tmp_path, "a.jsonl", data))
    assert (result.format, len(result.examples), result.findings) == ("chat", 2, ())
    assert [e.line for e in result.examples] == [1, 3]


def test_reading_goes_on_after_bad_lines(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(CHAT) + "{'a': 1}\n[1, 2]\n" + lines(CHAT) + '{"messages": NaN}\n')
    result = read(path)
    assert [(f.line, f.code) for f in result.findings] == [(2, "invalid_json"), (3, "not_an_object"), (5, "invalid_json")]
    assert (len(result.examples), result.n_records) == (2, 5)
    assert "double quotes" in result.findings[0].hint


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("utf16.jsonl", lines(CHAT).encode("utf-16"), (1, "wrong_encoding")),
        ("utf16_no_bom.jsonl", lines(CHAT).encode("utf-16-le"), (1, "wrong_encoding")),
        ("latin1.jsonl", (lines(CHAT) + '{"messages": "Grüße"}\n').encode("latin-1"), (2, "wrong_encoding")),
        ("latin1.json", '[\n{"instruction": "Grüße", "output": "x"}]'.encode("latin-1"), (2, "wrong_encoding")),
        ("latin1.csv", "text,label\na,b\nGrüße,c\n".encode("latin-1"), (3, "wrong_encoding")),
        ("gz.jsonl", b"\x1f\x8b\x08\x00", (0, "not_text")),
        ("empty.jsonl", b"", (0, "empty_file")),
        ("blank.csv", b" \r\n\r\n", (0, "empty_file")),
        ("empty_list.json", b"[]", (0, "empty_file")),
        ("cut.json", b'[\n{"instruction": "a"', (2, "invalid_json")),
        ("surrogate.jsonl", b'{"messages": "\\ud800"}', (1, "invalid_json")),
        ("deep.jsonl", b"[" * 100_000, (1, "invalid_json")),
        ("not.parquet", b"PAR1 but not really", (0, "not_parquet")),
    ],
)
def test_an_unreadable_file_is_a_finding_with_place_and_remedy(tmp_path, name, data, expected):
    result = read(write(tmp_path, name, data))
    assert expected in [(f.line, f.code) for f in result.findings]
    assert all(f.hint for f in result.findings)


def test_wrong_encoding_names_the_character_and_the_command(tmp_path):
    (finding, *_) = read(write(tmp_path, "a.jsonl", b'{"a": "Gr\xfc\xdfe"}')).findings
    assert "'ü'" in finding.message
    assert "iconv" in finding.hint


def test_no_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(BadData, match="There is no file"):
        read(tmp_path / "missing.jsonl")
    with pytest.raises(BadData, match="is a folder"):
        read(tmp_path)


def test_deprecated_functions_and_content_parts(tmp_path):
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Graz?"}]},
            {"role": "assistant", "function_call": {"name": "weather", "arguments": '{"city": "Graz"}'}, "refusal": None},
            {"role": "function", "name": "weather", "content": "rain"},
            {"role": "assistant", "content": "It rains.", "weight": 1},
        ],
        "functions": [{"name": "weather", "parameters": {"type": "object"}}],
        "parallel_tool_calls": False,
    }
    result = read(write(tmp_path, "a.jsonl", lines(row)))
    assert result.findings == ()
    (example,) = result.examples
    assert example.messages[0].content == "Weather in Graz?"
    (call,) = example.messages[1].tool_calls
    assert example.messages[2].role == "tool"
    assert example.messages[2].tool_call_id == call.id
    assert example.tools[0]["type"] == "function"
    assert json.loads(to_jsonl([example]))["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("message", "code", "hint"),
    [
        ({"role": "asistant", "content": "x"}, "bad_role", '"assistant"'),
        ({"role": "human", "content": "x"}, "bad_role", '"user"'),
        ({"content": "x"}, "bad_role", "assistant"),
        ({"role": "user", "contnet": "x"}, "unknown_key", "'content'"),
        ({"role": "user"}, "missing_content", ""),
        ({"role": "user", "content": 5}, "bad_content", ""),
        ({"role": "user", "content": [{"type": "image_url"}]}, "unsupported_content", ""),
        ({"role": "user", "content": "x", "weight": 1}, "weight_on_non_assistant", ""),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "bad_weight", ""),
        ({"role": "assistant", "content": "x", "weight": True}, "bad_weight", ""),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, "bad_arguments", ""),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{a}"}}]}, "bad_arguments", ""),
        ({"role": "assistant", "tool_calls": [{"name": "f"}]}, "bad_tool_call", ""),
        ("text", "bad_message", ""),
    ],
)
def test_a_bad_message_is_found_and_its_example_left_out(tmp_path, message, code, hint):
    row = {"messages": [message, {"role": "assistant", "content": "ok"}]}
    result = read(write(tmp_path, "a.jsonl", lines(CHAT, row)))
    assert (2, code) in [(f.line, f.code) for f in result.findings]
    assert hint in next(f.hint for f in result.findings if f.code == code)
    assert [e.line for e in result.examples] == [1]


def test_a_misspelt_key_is_an_error_and_other_fields_are_kept(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(CHAT | {"tool": []}, CHAT | {"id": 7}, {"mesages": []}))
    assert codes(path) == [(0, "extra_fields"), (1, "unknown_key"), (3, "missing_key")]
    result = read(path)
    assert result.examples[0].meta == {"id": 7}
    assert 'Rename "mesages"' in result.findings[-1].hint


def test_canonical_lines_are_read_back_as_they_were(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(CHAT | {"tools": [{"type": "function", "function": {"name": "f"}}], "id": 7}))
    data = to_jsonl(load(path))
    again = read(write(tmp_path, "b.jsonl", data))
    assert again.findings == ()
    assert to_jsonl(again.examples) == data
    assert "meta" not in json.loads(to_jsonl(again.examples, with_meta=False))


def test_completion_alpaca_and_sharegpt_are_detected(tmp_path):
    completion = read(write(tmp_path, "c.jsonl", lines({"prompt": "a", "completion": " b", "id": 1})))
    assert completion.format == "completion"
    assert completion.examples[0].answer == " b"
    row = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "S", "history": [["q", "a"]]}
    alpaca = read(write(tmp_path, "a.json", [row]))
    assert alpaca.format == "alpaca"
    assert [m.content for m in alpaca.examples[0].messages] == ["S", "q", "a", "Add.\n1 2", "3"]
    turns = [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": {}}]'},
        {"from": "observation", "value": "1"},
        {"from": "observation", "value": "2"},
        {"from": "gpt", "value": "done"},
    ]
    share = read(write(tmp_path, "s.json", [{"conversations": turns, "system": "S", "tools": '[{"name": "f"}]'}]))
    assert (share.format, share.findings) == ("sharegpt", ())
    messages = share.examples[0].messages
    assert [m.role for m in messages] == ["system", "user", "assistant", "tool", "tool", "assistant"]
    assert [c.id for c in messages[2].tool_calls] == [messages[3].tool_call_id, messages[4].tool_call_id]
    assert messages[2].tool_calls[0].function.arguments == '{"a": 1}'


def test_json_list_in_a_jsonl_file_and_jsonl_in_a_json_file(tmp_path):
    assert len(read(write(tmp_path, "a.jsonl", [CHAT, CHAT])).examples) == 2
    assert len(read(write(tmp_path, "b.json", lines(CHAT, CHAT))).examples) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'text,label\n"Hi, you\nthere",greet\nBye,leave\n'),
        ("b.csv", "text;label\r\n'Hi, you\r\nthere';greet\r\nBye;leave\r\n"),
        ("c.tsv", 'text\tlabel\n"Hi, you\nthere"\tgreet\nBye\tleave\n'),
    ],
)
def test_csv_dialects(tmp_path, name, text):
    result = read(write(tmp_path, name, text), mapping=Mapping(input="text", output="label"))
    assert result.findings == ()
    assert [e.question.replace("\r", "") for e in result.examples] == ["Hi, you\nthere", "Bye"]
    assert [e.line for e in result.examples] == [2, 4]


def test_apostrophes_in_prose_are_not_quotes(tmp_path):
    text = "text,label\nI can't do it,x\n'tis fine isn't it,y\nit's ok,z\n"
    result = read(write(tmp_path, "a.csv", text), mapping=Mapping(input="text", output="label"))
    assert [e.question for e in result.examples] == ["I can't do it", "'tis fine isn't it", "it's ok"]


def test_a_csv_row_with_a_cell_too_many_is_found(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,b\nc,d,e\nf,g\n")
    assert codes(path, mapping=Mapping(input="text", output="label")) == [(3, "wrong_number_of_fields")]


def test_headerless_csv_gets_numbered_columns(tmp_path):
    path = write(tmp_path, "a.csv", "yes,Is it good to have an answer here?\nno,Is this one better?\nyes,Or this?\n")
    result = read(path, mapping=Mapping(input="column_2", output="column_1"))
    assert [e.answer for e in result.examples] == ["yes", "no", "yes"]
    assert [f.code for f in result.findings] == ["no_header"]


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"q": ["a", None], "a": [1, 2]}), path)
    result = read(path, mapping=Mapping(input="q", output="a"))
    assert [(e.question, e.answer) for e in result.examples] == [("a", "1")]
    assert [(f.line, f.code) for f in result.findings] == [(2, "missing_field")]


def test_unknown_format_lists_the_fields(tmp_path):
    (finding,) = read(write(tmp_path, "a.jsonl", lines({"q": "a", "a": "b"}))).findings
    assert finding.code == "unknown_format"
    assert "q, a" in finding.message


def test_a_format_that_contradicts_the_mapping_is_refused(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(CHAT))
    with pytest.raises(BadData):
        read(path, "chat", Mapping(input="a", output="b"))
    with pytest.raises(BadData):
        read(path, "mapped")


def test_load_raises_with_line_and_remedy(tmp_path):
    path = write(tmp_path, "a.jsonl", lines(CHAT) + "oops\n")
    with pytest.raises(BadData, match=r"line 2") as caught:
        load(path)
    assert "data check" in caught.value.hint


@needs_shared
def test_every_broken_line_of_a_real_file_is_found():
    result = read(SHARED / "raw_formats/nl2gql_broken_first100.jsonl", mapping=Mapping(input="prompt", output="content"))
    assert sum(f.code == "invalid_json" for f in result.findings) == 71
    assert len(result.examples) == 29


@needs_shared
def test_a_real_csv_without_header_is_read_as_its_clean_twin():
    mapping = Mapping(input="column_2", output="column_1")
    dirty = read(SHARED / "raw_formats/10kgnad_test_crlf_semicolon.csv", mapping=mapping).examples
    clean = load(SHARED / "10kgnad_test.jsonl", mapping=Mapping(input="text", output="category"))
    assert [(e.question, e.answer) for e in dirty] == [(e.question, e.answer) for e in clean]


@needs_shared
@pytest.mark.parametrize(
    ("name", "format", "n"),
    [("alpaca_en_demo.json", "alpaca", 999), ("glaive_toolcall_en_demo.json", "sharegpt", 300), ("pirate_training_set.jsonl", "chat", 10)],
)
def test_real_files_are_detected_and_read_whole(name, format, n):
    result = read(SHARED / "raw_formats" / name)
    assert (result.format, len(result.examples), result.errors) == (format, n, ())
