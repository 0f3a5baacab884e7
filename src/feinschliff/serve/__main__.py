"""`python -m feinschliff.serve MODEL_DIR [--nf4 | --embedding | --live]`. Ends when its stdin does, so it cannot outlive its parent."""
import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from pydantic import ValidationError

from feinschliff.core.engine import (
    REQUEST,
    Embed,
    Generate,
    Progress,
    Ready,
    Refused,
    Request,
    Response,
    Vectors,
)
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.live import Limits
from feinschliff.serve.chat import ChatEngine
from feinschliff.serve.embed import Encoder
from feinschliff.serve.live import program


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m feinschliff.serve")
    parser.add_argument("model", type=Path)
    parser.add_argument("--nf4", action="store_true", help="hold the base in 4 bits, as qlora adapters are trained")
    parser.add_argument("--embedding", action="store_true", help="MODEL is a sentence encoder")
    parser.add_argument("--live", action="store_true", help="many requests at once, as they come (core.live)")
    parser.add_argument("--limits", type=Limits.model_validate_json, default=Limits(), help="bounds of --live, a JSON object")
    arguments = parser.parse_args()
    if arguments.nf4 and (arguments.embedding or arguments.live):
        parser.error("--nf4 is for batches of chats: it goes neither with --embedding nor with --live")
    if arguments.live:
        return program.run(arguments.model, arguments.limits)
    try:
        handle = _encoder(arguments.model) if arguments.embedding else _chat(arguments.model, quantised=arguments.nf4)
    except FeinschliffError as error:
        _say(Refused(id=0, code=error.code, message=error.message, hint=error.hint))
        return 1
    _say(Ready())
    for line in sys.stdin:
        try:
            request = REQUEST.validate_json(line)
        except ValidationError as error:
            _say(Refused(id=0, code="bad_request", message=str(error)))
            continue
        try:
            _say(handle(request))
        except FeinschliffError as error:
            _say(Refused(id=request.id, code=error.code, message=error.message, hint=error.hint))
    return 0


def _chat(folder: Path, *, quantised: bool) -> Callable[[Request], Response]:
    engine = ChatEngine(folder, quantised=quantised)

    def handle(request: Request) -> Response:
        match request:
            case Generate():
                return engine.answer(request, lambda done: _say(Progress(id=request.id, done=done)))
            case Embed():
                return Refused(id=request.id, code="bad_request", message="This program serves a chat model.")
            case _:
                assert_never(request)

    return handle


def _encoder(folder: Path) -> Callable[[Request], Response]:
    encoder = Encoder(folder)

    def handle(request: Request) -> Response:
        match request:
            case Embed():
                return Vectors(id=request.id, vectors=tuple(map(tuple, encoder(request.texts).tolist())))
            case Generate():
                return Refused(id=request.id, code="bad_request", message="This program serves an embedding model.")
            case _:
                assert_never(request)

    return handle


def _say(response: Response) -> None:
    sys.stdout.write(response.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
