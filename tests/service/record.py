"""What the tests have exercised of the contract: for each operation the statuses, the request's fields and the response's, and where.

`FEINSCHLIFF_RECORD=folder pytest tests/service` writes it there, a file for every process; `compatibility` reads them.
"""
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire_contract import Exchange


class Record:
    """Files of tests by operation and what was seen there: `200`, `body.model`, `query.limit`, `response.id`."""

    def __init__(self) -> None:
        self.file = ""  # of the test that runs
        self._seen: defaultdict[str, defaultdict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def note(self, operation: "str | None", exchange: "Exchange") -> None:
        if operation is None or not self.file:
            return
        things = {str(exchange.status)}
        if exchange.status < 400:  # what was refused is not supported
            given = exchange.sent if isinstance(exchange.sent, dict) else {}
            things |= {f"body.{name.partition('[')[0]}" for name in given}
            things |= {f"query.{pair.partition('=')[0].partition('%5B')[0]}" for pair in exchange.query.split("&") if pair and not pair.startswith("api-version=")}
            if "json" in exchange.content_type and isinstance(answer := json.loads(exchange.body), dict):
                things |= {f"response.{name}" for name in answer}
        for thing in things:
            self._seen[operation][thing].add(self.file)

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        told = {op: {thing: sorted(files) for thing, files in things.items()} for op, things in self._seen.items()}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(told), encoding="utf-8")


RECORD = Record()
