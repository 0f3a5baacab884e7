"""What is compared: systems with their settings, and the cases (data set and batch) that they are measured on."""
from dataclasses import dataclass
from typing import Literal

Precision = Literal["bf16", "fp32"]
Device = Literal["cpu", "cuda"]
OURS = "feinschliff"


@dataclass(frozen=True, slots=True)
class System:
    """One way of training. `libraries`: the peer gets feinschliff's allocator settings, tcmalloc and a fast MKL path."""

    name: str
    program: str  # OURS, or the peer's environment
    script: str  # in peers/; "" for ours
    precision: Precision
    padding_free: bool = False
    packing: bool = False
    libraries: bool = False
    liger: bool = False  # Liger's fused kernels
    devices: tuple[Device, ...] = ("cpu",)  # that it is measured on

    @property
    def same_losses(self) -> bool:
        """It starts from the same adapter, takes the same steps and computes in fp32: its loss curve must be ours."""
        return self.precision == "fp32" and not self.packing and self.program in (OURS, "trl")


def _trl(name: str, precision: Precision, **settings: bool) -> tuple[System, System]:
    as_it_comes = System(f"trl-{name}", "trl", "trl_sft.py", precision, devices=("cpu", "cuda"), **settings)
    return as_it_comes, System(f"trl-{name}+libs", "trl", "trl_sft.py", precision, libraries=True, **settings)


_ALL = (
    System("feinschliff-bf16", OURS, "", "bf16", devices=("cpu", "cuda")),
    System("feinschliff-fp32", OURS, "", "fp32", devices=("cpu", "cuda")),
    *_trl("bf16-padding-free", "bf16", padding_free=True),
    *_trl("bf16-packing", "bf16", packing=True),
    *_trl("bf16", "bf16"),
    *_trl("fp32", "fp32"),
    System("llamafactory-bf16", "llamafactory", "llamafactory_sft.py", "bf16"),
    System("litgpt-bf16", "litgpt", "litgpt_lora.py", "bf16"),
    System("trl-bf16-liger", "trl-liger", "trl_sft.py", "bf16", liger=True, devices=("cuda",)),
    System("trl-bf16-padding-free-liger", "trl-liger", "trl_sft.py", "bf16", padding_free=True, liger=True, devices=("cuda",)),
    System("unsloth-bf16", "unsloth", "unsloth_sft.py", "bf16", devices=("cuda",)),
)
SYSTEMS = {system.name: system for system in _ALL}


@dataclass(frozen=True, slots=True)
class Case:
    """A data set with so many examples in an optimizer step, and the systems measured on it unless others are asked for."""

    data: str
    batch: int
    systems: tuple[str, ...]
    at_a_time: int = 5400  # padded tokens that a peer takes in one pass: it needs up to 3 MiB for each, of 24 GiB

    def on(self, device: Device) -> tuple[str, ...]:
        """The systems measured on `device`: on a GPU, in every case the same."""
        if device == "cpu":
            return tuple(name for name in self.systems if device in SYSTEMS[name].devices)
        return tuple(name for name, system in SYSTEMS.items() if device in system.devices)

    def micro_batch(self, longest: int) -> int:
        """How many examples of up to `longest` tokens a peer takes at a time: the batch halved until they fit."""
        size = self.batch
        while size > 1 and size % 2 == 0 and size * longest > self.at_a_time:
            size //= 2
        return size


MAX_TOKENS = 1024  # longer rows are left out of every case
_USUAL = ("feinschliff-bf16", "trl-bf16-padding-free", "trl-bf16-padding-free+libs", "trl-bf16-packing+libs", "llamafactory-bf16", "litgpt-bf16")
_LIBRARIES = tuple(name for name in SYSTEMS if name.endswith("+libs") and "bf16" in name)
CASES = {
    "S": Case("S", 8, tuple(SYSTEMS)),
    "D": Case("D", 8, tuple(SYSTEMS)),
    "S32": Case("S", 32, ("feinschliff-bf16", *_LIBRARIES)),
    "zograscope": Case("zograscope", 8, _USUAL),
    "banking77": Case("banking77", 8, _USUAL),
    "gsm8k": Case("gsm8k", 8, _USUAL),
    "tools": Case("tools", 8, _USUAL),
}
