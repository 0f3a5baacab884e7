"""Sentence embeddings with a BERT-shaped encoder: mean of the token states, unit length (sentence-transformers' recipe)."""
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

BATCH = 64


class Encoder:
    """Loads a folder with an encoder and its tokenizer."""

    def __init__(self, folder: Path, max_tokens: int = 256) -> None:
        self._model: PreTrainedModel = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
        assert isinstance(tokenizer, PreTrainedTokenizerFast)  # the folder has a tokenizer.json
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(n, d) float32. Texts over `max_tokens` are embedded by their beginning, as the model was made."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out: dict[int, Tensor] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = self._tokenizer(
                [texts[i] for i in chosen], padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
            )
            states = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            out |= zip(chosen, torch.nn.functional.normalize(mean, dim=-1), strict=True)
        return torch.stack([out[i] for i in range(len(texts))]) if texts else torch.zeros(0, 0)
