from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feinschliff.core.errors import BadData
from feinschliff.retrieval.chunk import chunk, windows
from feinschliff.retrieval.documents import Document, Kind


def cut(kind: Kind, text: str, chunk_words: int = 20) -> list[tuple[str, str]]:
    return [(c.source, c.text) for c in chunk(Document("f", kind, text), chunk_words)]


def test_markdown_keeps_the_heading_path() -> None:
    text = "intro\n# Graph\n## Nodes\n### City\nname, population\n## Edges ##\n- IN\n# Empty\n"
    assert cut("markdown", text) == [
        ("f", "intro"),
        ("f > Graph > Nodes > City", "Graph > Nodes > City\nname, population"),
        ("f > Graph > Edges", "Graph > Edges\n- IN"),
        ("f > Empty", "Empty"),
    ]


def test_a_hash_inside_a_code_fence_is_no_heading() -> None:
    assert cut("markdown", "# A\n```sh\n# comment\n```\ntail") == [("f > A", "A\n```sh\n# comment\n```\ntail")]
    assert cut("markdown", "# A\n```sh\n# comment") == [("f > A", "A\n```sh\n# comment")]


def test_json_is_cut_by_entries_and_large_ones_by_theirs() -> None:
    big = ", ".join(f'"p{i}": "one two three four"' for i in range(5))
    found = cut("json", f'{{"small": {{"a": 1}}, "big": {{{big}}}}}')
    assert found[0] == ("f > small", 'small\n{\n "a": 1\n}')
    assert [source for source, _ in found[1:]] == ["f > big", "f > big"]
    assert "p0: one two three four" in found[1][1]
    assert sum(text.count("one two three four") for _, text in found) == 5


def test_json_arrays_and_lines_are_cut_by_item() -> None:
    assert cut("json", '["a", {"b": 2}]') == [("f > [0]", "[0]\na"), ("f > [1]", '[1]\n{\n "b": 2\n}')]
    assert cut("jsonl", '"a"\n\n"b"\n') == [("f > [0]", "[0]\na"), ("f > [1]", "[1]\nb")]


@pytest.mark.parametrize(("kind", "line"), [("json", 3), ("jsonl", 3)])
def test_broken_json_is_named_with_its_line(kind: Kind, line: int) -> None:
    text = '{"a":\n 1,\n oops}' if kind == "json" else '{"a": 1}\n\n{oops}\n'
    with pytest.raises(BadData, match=f"f, line {line}: not valid JSON"):
        cut(kind, text)


def test_paragraphs_stay_together_while_they_fit() -> None:
    paragraphs = [" ".join([letter] * 8) for letter in "abc"]
    assert cut("text", "\n\n".join(paragraphs)) == [
        ("f", f"{paragraphs[0]}\n\n{paragraphs[1]}"),
        ("f", paragraphs[2]),
    ]


@pytest.mark.parametrize("kind", ["markdown", "json", "jsonl", "text"])
def test_an_empty_document_has_no_chunks(kind: Kind) -> None:
    assert cut(kind, " \n\n") == []


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=90), st.integers(6, 30))
def test_windows_cover_every_word_in_order_and_overlap(words: list[str], n_words: int) -> None:
    numbered = [f"{word}{i}" for i, word in enumerate(words)]
    cuts = [window.split() for window in windows("\n ".join(numbered), n_words)]
    assert list(dict.fromkeys(word for window in cuts for word in window)) == numbered
    assert all(len(window) <= n_words for window in cuts)
    for left, right in pairwise(cuts):
        assert left[-(n_words // 6) :] == right[: n_words // 6]
        assert len(right) > n_words // 6  # the last window says something new
