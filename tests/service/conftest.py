import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `from running import …`

from record import RECORD
from running import Server
from wire_contract import SPECIFICATION, WHY_NOT


@pytest.fixture(scope="module")
def server(tmp_path_factory, tiny_model):
    """One server for a module's tests, with the tiny model on offer."""
    server = Server(tmp_path_factory.mktemp("service"), "--model", f"tiny={tiny_model}").start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def client(server):
    return server.client()


@pytest.fixture(scope="session")
def contract():
    """For tests whose point is the contract."""
    if not SPECIFICATION.is_file():
        pytest.skip(WHY_NOT)


@pytest.fixture(scope="module", autouse=True)
def _recorded(request):
    RECORD.file = request.path.name
    yield
    RECORD.file = ""


def pytest_sessionfinish() -> None:
    if folder := os.environ.get("FEINSCHLIFF_RECORD"):
        RECORD.write(Path(folder))
