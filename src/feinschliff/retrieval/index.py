"""A hybrid index over chunks: BM25 for the words, embeddings for the meaning, fused by rank.

Both halves are exact and in memory: the embeddings are one (n, d) matrix and a search is one product with it.
At d = 384 that is 150 MB and tens of milliseconds a query for 100,000 chunks, far beyond the schema and
handbook corpora this is for; beyond that an approximate index would take this module's place.
"""
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feinschliff.core.errors import BadData
from feinschliff.core.ports import Embedder, Passage
from feinschliff.retrieval.chunk import Chunk, chunk
from feinschliff.retrieval.documents import Document
from feinschliff.retrieval.search import best, fuse

CANDIDATES = 100  # of each half, before fusion
_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def words(text: str) -> list[str]:
    """Lower-case words; identifiers also by their parts ("PhoneCall" → phonecall, phone, call)."""
    found: list[str] = []
    for word in _WORD.findall(text):
        parts = _HUMP.split(word)
        found.append(word.lower())
        if len(parts) > 1:
            found.extend(part.lower() for part in parts)
    return found


class Bm25:
    """Okapi BM25 over words, exact (bm25s, Lù 2024, arXiv 2407.03618)."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        tokens = [words(text) for text in texts]
        self._vocabulary = {word for row in tokens for word in row}
        self._n = len(tokens)
        self._model = bm25s.BM25(backend="numpy")
        if self._vocabulary:  # bm25s divides by the mean length
            self._model.index(tokens, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """(n,) float32; 0 where no word is shared."""
        known = [word for word in words(query) if word in self._vocabulary]
        if not known:
            return np.zeros(self._n, dtype=np.float32)
        return np.asarray(self._model.get_scores(known), dtype=np.float32)


@dataclass(frozen=True)
class Index:
    """Searchable chunks; a `core.ports.Retriever`. Without an embedder it ranks by words alone."""

    chunks: tuple[Chunk, ...]
    bm25: Bm25
    embedder: Embedder | None
    vectors_ND: NDArray[np.float32] | None  # (n chunks, d) unit rows

    @classmethod
    def build(cls, documents: Sequence[Document], embedder: Embedder | None, chunk_words: int) -> "Index":
        """Cuts, counts and embeds. Raises BadData where the documents hold no text at all."""
        chunks = tuple(piece for document in documents for piece in chunk(document, chunk_words))
        if not chunks:
            raise BadData(
                "retrieval documents: the files hold no text",
                hint="Fill them, or name others under [retrieval] documents.",
            )
        texts = [piece.text for piece in chunks]
        vectors_ND = None if embedder is None else embedder(texts)
        return cls(chunks=chunks, bm25=Bm25(texts), embedder=embedder, vectors_ND=vectors_ND)

    def __call__(self, queries: Sequence[str], /, *, k: int) -> Sequence[Sequence[Passage]]:
        """For each query its `k` best chunks (fewer where the corpus is smaller), best first."""
        if not queries:
            return []
        lexical = [best(self.bm25.scores(query), max(CANDIDATES, k), above=0.0) for query in queries]
        semantic = self._semantic(queries, max(CANDIDATES, k))
        return [
            [self._passage(i, score) for i, score in fuse(rankings)[:k]]
            for rankings in zip(lexical, semantic, strict=True)
        ]

    def _semantic(self, queries: Sequence[str], n: int) -> list[list[int]]:
        if self.embedder is None or self.vectors_ND is None:
            return [[] for _ in queries]
        # One product a query: a single (queries, n) product may round differently with the number of queries.
        return [best(self.vectors_ND @ query_D, n) for query_D in self.embedder(queries)]

    def _passage(self, i: int, score: float) -> Passage:
        return Passage(text=self.chunks[i].text, source=self.chunks[i].source, score=score)
