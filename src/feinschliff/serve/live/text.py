"""An answer's text on its way out: held back while it could still become a stop sequence, cut where it has."""
from collections.abc import Sequence

from feinschliff.serve.live.vocabulary import TextStream


class Outgoing:
    """Tokens in, text that may be told out."""

    def __init__(self, stream: TextStream, stop: Sequence[str]) -> None:
        self._stream = stream
        self._stop = tuple(s for s in stop if s)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Text that is certain to be part of the answer now. Sets `stopped` when a stop sequence is complete."""
        return self._release(self._stream.push(token))

    def finish(self) -> str:
        """The rest, when no more tokens come."""
        told = self._release(self._stream.rest())
        rest, self._held = self._held, ""
        return told if self.stopped else told + rest

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [at for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:
            told, self._held, self.stopped = self._held[: min(found)], "", True
            return told
        keep = max((_overlap(self._held, s) for s in self._stop), default=0)
        cut = len(self._held) - keep
        told, self._held = self._held[:cut], self._held[cut:]
        return told


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that `stop` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
