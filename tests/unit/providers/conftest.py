import pytest
from provider_double import Provider


@pytest.fixture
def provider():
    double = Provider()
    yield double
    double.close()
