"""Answers that were paid for, kept as each one comes: a killed study does not pay for them twice."""
import hashlib
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter

from feinschliff.core.chat import Conversation, Wire
from feinschliff.core.engine import Sampling
from feinschliff.core.ports import Reply

_CONVERSATION = TypeAdapter(Conversation)


class _Kept(Wire):
    key: str
    reply: Reply


def key_of(model: str, sampling: Sampling, conversation: Conversation) -> str:
    """Of all that an answer depends on."""
    said = (model.encode(), sampling.model_dump_json().encode(), _CONVERSATION.dump_json(conversation))
    return hashlib.sha256(b"\0".join(said)).hexdigest()


class KeptAnswers:
    """A file of one line an answer, appended by one process; a last line that a kill cut short is cut off."""

    def __init__(self, file: Path) -> None:
        self._file, self._lock = file, Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        raw = file.read_bytes() if file.is_file() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            with file.open("r+b") as cut:
                cut.truncate(len(whole))
        kept = [_Kept.model_validate_json(line) for line in whole.splitlines()]
        self._replies = {answer.key: answer.reply for answer in kept}

    def get(self, key: str) -> Reply | None:
        return self._replies.get(key)

    def add(self, key: str, reply: Reply) -> None:
        """From any thread."""
        line = _Kept(key=key, reply=reply).model_dump_json() + "\n"
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(line)
            self._replies[key] = reply
