import pytest
from relay import Relay


@pytest.fixture(scope="module")
def relay(server):
    """In front of the module's server; at the end, nothing of what passed may have been against the contract."""
    with Relay(server.url) as relay:
        yield relay
    assert relay.problems == []
