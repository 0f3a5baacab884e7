import torch
from torch import nn

from feinschliff.train.live_bytes import LiveBytes, phases

KB = 1024


def test_counts_what_operators_make_until_it_is_freed():
    weight = torch.ones(64, 64)
    with LiveBytes() as live:
        a = torch.zeros(16, 64)
        assert live.live == 4 * KB
        b = a.t()[3:]  # a view of it
        a += 1  # in place
        assert live.live == 4 * KB
        w = weight.t()  # what was there before isn't counted, nor views of it
        assert live.live == 4 * KB
        c = a @ w
        assert live.live == 8 * KB
        del a
        assert live.live == 8 * KB  # the view holds it
        del b, c
        assert live.live == 0
    assert live.peaks == [8 * KB]


def test_freed_memory_that_is_used_again_counts_again():
    with LiveBytes() as live:
        for _ in range(5):
            x = torch.zeros(256)
            assert live.live == KB
            del x
        assert live.live == 0


def test_phases_follow_the_layers_there_and_back():
    layers = [nn.Linear(32, 32), nn.Linear(32, 256), nn.Linear(256, 1)]
    for layer in layers:
        for p in layer.parameters():
            p.grad = torch.zeros_like(p)

    def run(n):
        def forward():
            x = torch.zeros(n, 32)
            for layer in layers:
                x = layer(x).relu()
            return x.sum()

        return phases(layers, forward)

    one, two, four = run(64), run(128), run(256)
    assert len(one) == len(two) == 1 + 3 + 1 + 3
    assert all(d - b == 2 * (b - a) for a, b, d in zip(one, two, four, strict=True))  # linear, phase by phase
    assert one[0] == 64 * 32 * 4
    assert max(four) < 256 * 4 * (32 + 32 * 2 + 256 * 3) + 256 * 33 * 4 + 100 * KB
