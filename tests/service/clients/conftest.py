import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `from environments import …`

from relay import Relay


@pytest.fixture(scope="module")
def relay(server):
    """In front of the module's server; at the end, nothing of what passed may have been against the contract."""
    with Relay(server.url) as relay:
        yield relay
    assert relay.problems == []
