import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from feinschliff.core.errors import BadData
from feinschliff.retrieval.documents import Document, read_documents
from feinschliff.retrieval.index import Index, words

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")

TOPICS = ("money", "weather", "sport")
SYNONYMS = {"cash": "money", "rain": "weather", "football": "sport"}


def by_topic(texts: Sequence[str]) -> NDArray[np.float32]:
    """A tiny embedder that knows synonyms: one axis a topic."""
    rows = [[float(any(SYNONYMS.get(w, w) == t for w in words(text))) for t in TOPICS] for text in texts]
    rows_ND = np.array(rows, dtype=np.float32) + 1e-6
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


DOCUMENTS = [Document(name, "text", name) for name in ("money", "weather", "sport", "chess")]


def test_words_split_identifiers() -> None:
    assert words("INVESTIGATED_BY PhoneCall") == ["investigated", "by", "phonecall", "phone", "call"]


def test_meaning_finds_what_words_do_not() -> None:
    [lexical] = Index.build(DOCUMENTS, None, 20)(["cash"], k=1)
    [hybrid] = Index.build(DOCUMENTS, by_topic, 20)(["cash"], k=1)
    assert list(lexical) == []  # no shared word, nothing to rank by
    assert [p.text for p in hybrid] == ["money"]


def test_both_halves_count_and_ties_follow_the_corpus() -> None:
    [found] = Index.build(DOCUMENTS, by_topic, 20)(["chess rain"], k=4)
    assert {p.text for p in found[:2]} == {"weather", "chess"}
    assert [p.score for p in found] == sorted((p.score for p in found), reverse=True)


def test_an_answer_does_not_depend_on_its_batch() -> None:
    index = Index.build(DOCUMENTS, by_topic, 20)
    queries = ["cash", "", "chess rain", "football money"]
    assert [index([q], k=3)[0] for q in queries] == list(index(queries, k=3))
    assert list(index([], k=3)) == []


@pytest.mark.parametrize("text", ["", "…"])
def test_corpora_without_words(text: str) -> None:
    documents = [Document("a", "text", text)]
    if not text:
        with pytest.raises(BadData, match="hold no text"):
            Index.build(documents, None, 20)
    else:
        assert Index.build(documents, None, 20)(["anything"], k=2) == [[]]


def test_building_and_searching_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    Index.build(DOCUMENTS, None, 20)(["money"], k=1)
    assert capfd.readouterr() == ("", "")


@needs_shared
def test_questions_find_their_paragraph_by_words_alone() -> None:
    with (SHARED / "xquad_en.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    index = Index.build([Document(str(i), "text", r["context"]) for i, r in enumerate(rows)], None, 2000)
    asked = [(str(i), qa["question"]) for i, row in enumerate(rows) for qa in row["qas"]]
    found = index([question for _, question in asked], k=3)
    recall = np.mean([gold in {p.source for p in passages} for (gold, _), passages in zip(asked, found, strict=True)])
    assert recall > 0.95  # 612 questions over 120 paragraphs, 0.974 measured


@needs_shared
def test_a_question_finds_its_part_of_a_schema() -> None:
    index = Index.build(read_documents(["zograscope_graph_schema.json"], SHARED), None, 60)
    [found] = index(["Which relation says by which officer a crime is investigated?"], k=2)
    assert any("INVESTIGATED_BY" in passage.text for passage in found)
