import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `from tiny import …`


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a whole model folder; do not write into it."""
    from tiny import make_tiny_model  # transformers takes seconds to import; most tests do without

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sentence encoder's folder; do not write into it."""
    from tiny import make_tiny_encoder

    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny-encoder")
