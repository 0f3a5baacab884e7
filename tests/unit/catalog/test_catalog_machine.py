from feinschliff.catalog.available import available_bytes
from feinschliff.catalog.machine import this_machine


def test_this_machine_has_memory_and_multiplies():
    here = this_machine()
    assert here.memory_bytes > 0
    assert here.flops_per_s > 1e8
    assert this_machine(measured=False).flops_per_s is None


def test_bf16_units_are_read_from_the_processors_flags(tmp_path):
    assert not this_machine(tmp_path, measured=False).bf16
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("flags : fpu avx512_bf16 avx2\n", encoding="utf-8")
    (tmp_path / "proc/meminfo").write_text("MemAvailable:    1000 kB\n", encoding="utf-8")
    here = this_machine(tmp_path, measured=False)
    assert here.bf16
    assert here.memory_bytes == available_bytes(tmp_path) <= 1_024_000
