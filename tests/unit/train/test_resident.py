import torch

from feinschliff.train.resident import peak_bytes, resident_bytes


def test_resident_memory_grows_with_what_is_held():
    before = resident_bytes()
    held = torch.ones(16 << 20)  # 64 MiB
    grown = resident_bytes() - before
    assert 48 << 20 < grown < 128 << 20
    assert held[0] == 1
    assert peak_bytes() >= resident_bytes() - (1 << 20)
