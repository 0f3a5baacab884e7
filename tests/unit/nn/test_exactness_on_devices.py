"""The gradients of separate examples on each kind of device, and through the attention of GPUs."""
from dataclasses import dataclass

import pytest
import torch
from torch.nn.attention import flex_attention as torchs

from feinschliff.core.chat import Rendered
from feinschliff.nn.attention_flex import FlexAttend
from feinschliff.train.device import Cpu, chosen
from on_devices import each_device
from plain_model import difference, make_pair, packed_result, separate_result
from tiny import make_tiny_model

# Dynamo looks at every tensor's gradient.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
EXAMPLES = [
    Rendered([*range(5, 150), 170 + i, *range(20 * i, 30 + 25 * i)], [0.0] * 140 + [1.0] * (36 + 5 * i)) for i in range(4)
]  # one beginning of 145 tokens, so that there are several tiles


@dataclass(frozen=True)
class Flex(Cpu):
    """The attention of GPUs on a CPU, without compiling."""

    def attend(self, packed):
        return FlexAttend(packed)


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(torchs, "_validate_device", lambda *_: None)
    monkeypatch.setattr(torchs, "_WARNINGS_SHOWN", {"flex_attention_performance"})
    torch._dynamo.reset()


def far_from_separate(family, folder, device):
    """The largest difference of a gradient, and that of the loss."""
    model = make_tiny_model(folder / family, family, hidden=128)
    pair = make_pair(model, folder / "adapter", torch.float32, device=device)
    loss, grads = packed_result(pair.ours, EXAMPLES)
    wanted, wanted_grads = separate_result(pair.plain, EXAMPLES)
    return difference(grads, wanted_grads), abs(loss / wanted - 1)


@each_device
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma2"])  # all pairs; a window; a window and a soft cap
def test_a_tree_has_the_gradients_of_separate_examples(device, family, tmp_path):
    gradient, loss = far_from_separate(family, tmp_path, chosen(device))
    assert gradient < 1e-4
    assert loss < 2e-5


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_so_it_has_through_flexattention(family, tmp_path):
    gradient, loss = far_from_separate(family, tmp_path, Flex())
    assert gradient < 1e-4
    assert loss < 2e-5
