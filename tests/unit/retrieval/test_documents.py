from pathlib import Path

import pytest

from feinschliff.core.errors import BadData
from feinschliff.retrieval.documents import read_documents


def test_globs_are_relative_sorted_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/b.md").write_bytes(b"\xef\xbb\xbf# B\r\ntext\r\n")
    (tmp_path / "docs/a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "docs/deep/c.json").write_text("{}", encoding="utf-8")

    documents = read_documents(["docs/b.md", "docs/**/*.*"], tmp_path)

    assert [(d.source, d.kind) for d in documents] == [
        ("docs/b.md", "markdown"),
        ("docs/a.txt", "text"),
        ("docs/deep/c.json", "json"),
    ]
    assert documents[0].text == "# B\ntext\n"  # no byte-order mark, no carriage returns


def test_absolute_and_parent_patterns(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    found = read_documents(["../*.md", str(tmp_path / "a.md")], tmp_path / "study")
    assert [d.source for d in found] == ["../a.md"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"caf\xe9 au lait", "not UTF-8 text (byte 3)"), (b"a\x00b", "NUL bytes")],
)
def test_what_is_not_text_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(BadData) as caught:
        read_documents(["*.txt"], tmp_path)
    assert "x.txt" in caught.value.message
    assert says in caught.value.message
    assert caught.value.hint


def test_a_pattern_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(BadData, match=r"no file matches '\*\.md'"):
        read_documents(["*.md"], tmp_path)
