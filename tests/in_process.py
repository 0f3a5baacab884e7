"""The service's web application in this process, without a port and without background work: for variants of requests."""
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from starlette.testclient import TestClient

from feinschliff.api.app import create_app
from feinschliff.app.keys import first_key
from feinschliff.app.service import Service, now
from feinschliff.compose_service import open_service
from feinschliff.core.settings import Settings

ADMIN_KEY = "an-admin-key-for-tests-only"


def training_lines(n: int) -> str:
    """A training file of so many different questions and answers."""
    turns = ((f"What is {i}?", f"It is {i}.") for i in range(n))
    chats = ({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in turns)
    return "".join(json.dumps(chat) + "\n" for chat in chats)


@contextmanager
def application(folder: Path, *, clock: Callable[[], int] = now, **settings) -> Iterator[tuple[Service, TestClient]]:
    """The service and a client with an admin key; `settings` are those of `core.settings.Settings`."""
    with open_service(Settings(data_dir=folder / "data", admin_key=ADMIN_KEY, **settings)) as opened:
        service = replace(opened, clock=clock)
        first_key(service)
        with TestClient(create_app(service), headers={"authorization": f"Bearer {ADMIN_KEY}"}) as client:
            yield service, client
