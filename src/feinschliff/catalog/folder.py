"""A model folder as the catalogue would describe it: what its config.json says."""
from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from feinschliff.catalog.facts import Architecture, RequestTokens
from feinschliff.catalog.models import HERE, CatalogModel

FUSED = ("llama", "mistral", "qwen2", "phi3")  # `nn.fused` replaces their layers


class _Config(BaseModel):
    """The keys that dense decoders share, as transformers writes them."""

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    vocab_size: int
    tie_word_embeddings: bool | None = None
    max_position_embeddings: int | None = None
    experts: int | None = Field(None, validation_alias=AliasChoices("num_local_experts", "num_experts"))


def describe(name: str, folder: Path) -> CatalogModel:
    """Sizes are left out where the file cannot be read or is of a mixture of experts."""
    model = CatalogModel(
        id=name, kind="chat", licence="", about=f"The folder {folder}", source=str(folder), fine_tune_regions=(HERE,)
    )
    try:
        config = _Config.model_validate_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return model
    sizes = None if config.experts else _architecture(config)
    limit = RequestTokens(input=config.max_position_embeddings)
    parameters = None if sizes is None else sizes.linear_parameters + sizes.embedding_parameters
    return model.model_copy(update={"architecture": sizes, "max_request_tokens": limit, "parameters": parameters})


def _architecture(c: _Config) -> Architecture:
    tied = c.model_type.startswith("gemma") if c.tie_word_embeddings is None else c.tie_word_embeddings  # the families' defaults
    return Architecture(
        hidden=c.hidden_size, layers=c.num_hidden_layers, intermediate=c.intermediate_size, heads=c.num_attention_heads,
        kv_heads=c.num_key_value_heads or c.num_attention_heads, head_dim=c.head_dim or c.hidden_size // c.num_attention_heads,
        vocabulary=c.vocab_size, tied=tied, fused=c.model_type in FUSED, source="config.json",
    )  # fmt: skip
