"""/v1/embeddings."""
import base64
import struct
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from feinschliff.api.access import Reader, ServiceOf
from feinschliff.api.wire import Body, Shown
from feinschliff.app.answering import embed
from feinschliff.core.service_errors import RequestError

router = APIRouter(tags=["inference"])
Texts = Annotated[list[str], Field(min_length=1, max_length=2048)]


class EmbeddingIn(Body):
    model: str
    input: str | Texts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None


class EmbeddingOut(Shown):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Shown):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsOut(Shown):
    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingOut]
    usage: EmbeddingUsage


@router.post("/embeddings")
def create_embeddings(body: EmbeddingIn, service: ServiceOf, caller: Reader) -> EmbeddingsOut:
    """Vectors of unit length. Clients that ask for base64 get little-endian float32."""
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, n_tokens = embed(service, caller, body.model, texts)
    if body.dimensions not in (None, len(vectors[0])):
        raise RequestError(
            f"Vectors of {body.model} have {len(vectors[0])} dimensions, and are not cut.", param="dimensions", hint="Leave dimensions out."
        )
    shown = [
        EmbeddingOut(index=i, embedding=_packed(v) if body.encoding_format == "base64" else list(v)) for i, v in enumerate(vectors)
    ]
    return EmbeddingsOut(model=body.model, data=shown, usage=EmbeddingUsage(prompt_tokens=n_tokens, total_tokens=n_tokens))


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
