import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from feinschliff.providers.engine import Program

# Tiny matrices: a second thread would only wait for the first, and spin while it does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))  # for `from tiny import …`


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none on this machine")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama as a whole model folder; do not write into it."""
    from tiny import make_tiny_model  # transformers takes seconds to import; most tests do without

    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with heads as wide as kernels of GPUs want them; do not write into it."""
    from tiny import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("models") / "wide-llama", hidden=128)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sentence encoder's folder; do not write into it."""
    from tiny import make_tiny_encoder

    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "tiny-encoder")


@pytest.fixture(scope="session")
def tiny_program(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """A running answering program with `tiny_model`; starting one takes seconds."""
    with Program(tiny_model, tmp_path_factory.mktemp("serve") / "log.txt") as program:
        yield program
