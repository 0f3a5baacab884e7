import os
import sys
from pathlib import Path

import pytest

# Tiny matrices: a second thread would only wait for the first, and spin while it does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
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
