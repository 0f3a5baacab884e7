"""The training benchmark's arithmetic: what it counts, compares and resumes must be right before its numbers can be."""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "training"
sys.path.insert(0, str(BENCHMARK))

import children  # noqa: E402
import synthetic  # noqa: E402
import verdict  # noqa: E402
from results import Measurement, Results  # noqa: E402
from systems import CASES, SYSTEMS, Case  # noqa: E402
from work import Shape, needed_flops  # noqa: E402


def measured(system: str, seconds: list[float], case: str = "S", losses: tuple[float, ...] = (), gib: float = 1.0) -> Measurement:
    n = len(seconds)
    return Measurement(
        system, case, "measured", seconds=seconds, losses=list(losses), examples=[8] * n, logical_tokens=[100] * n,
        needed_flops=[1e9] * n, peak_rss_bytes=int(gib * 2**30),
    )  # fmt: skip


def test_s_shares_one_prompt_and_d_shares_nothing() -> None:
    s, d = list(synthetic.shared_prompt(64)), list(synthetic.separate(64))
    assert {row[0] for row in s} == {("system", synthetic.SCHEMA_PROMPT)}
    assert len({row[1] for row in s}) > 50
    assert len({row[0][1][:4] for row in d}) > 60  # the first characters differ already
    assert list(synthetic.separate(64)) == d


def test_needed_operations_are_those_of_a_model_counted_by_hand() -> None:
    shape = Shape(layers=2, hidden=4, heads_width=4, kv_width=2, inner=6, vocabulary=10)
    frozen = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * (4 * 6)  # q; k and v; o; gate, up and down
    adapters = 3 * ((4 + 4) + 2 * (4 + 2) + (4 + 4) + 3 * (4 + 6))  # rank 3
    by_hand = 2 * (4 * frozen + 6 * adapters) * 5 + 4 * 4 * 10 * 2 + 2 * 3.5 * 4 * 4 * 15
    assert needed_flops(shape, tokens=5, pairs=15, trained_tokens=2, rank=3) == by_hand


def test_a_peer_takes_as_many_examples_at_a_time_as_fit() -> None:
    eight, many = Case("S", 8, ()), Case("S", 32, ())
    assert eight.micro_batch(600) == 8
    assert many.micro_batch(600) == 8
    assert eight.micro_batch(1024) == 4
    assert eight.micro_batch(10**6) == 1


def test_every_case_names_systems_that_exist() -> None:
    assert all(name in SYSTEMS for case in CASES.values() for name in case.systems)


def test_peers_for_gpus_are_measured_there_and_preloaded_libraries_on_cpus() -> None:
    for case in CASES.values():
        assert not {"unsloth-bf16", "trl-bf16-liger"} & set(case.on("cpu"))
        assert {"feinschliff-bf16", "unsloth-bf16", "trl-bf16-liger"} <= set(case.on("cuda"))
        assert not any(SYSTEMS[name].libraries for name in case.on("cuda"))
    assert set(CASES["zograscope"].systems) == set(CASES["zograscope"].on("cpu"))


def test_the_first_step_is_not_counted() -> None:
    summary = measured("feinschliff-bf16", [100.0, 2.0, 4.0]).summary()
    assert summary["seconds_median"] == 3.0
    assert summary["examples_per_s"] == 16 / 6
    assert summary["gflops"] == pytest.approx(2 / 6)


def test_results_are_kept_between_runs(tmp_path: Path) -> None:
    ours = measured("feinschliff-bf16", [9.0, 2.0, 2.0])
    results = Results(tmp_path / "results.json")
    results.rates["S"] = {"bf16": 700.0}
    results.put(ours)
    again = Results(tmp_path / "results.json")
    assert again.get("S", "feinschliff-bf16") == ours
    assert again.get("S", "trl-bf16") is None
    assert again.rates == {"S": {"bf16": 700.0}}
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["runs"]["S/feinschliff-bf16"]["summary"]["examples_per_s"] == 4.0


def test_speeds_are_compared_over_the_same_steps() -> None:
    ours = measured("feinschliff-bf16", [9.0, 1.0, 1.0, 7.0, 7.0])
    assert verdict.speed_ratio(ours, measured("trl-bf16", [9.0, 4.0, 6.0])) == 5.0


def test_the_verdict_takes_the_best_peer_of_each_kind(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for m in (
        measured("feinschliff-bf16", [9.0, 1.0], gib=2.0), measured("trl-bf16", [9.0, 20.0], gib=9.0),
        measured("trl-bf16-padding-free", [9.0, 16.0], gib=8.0), measured("trl-bf16-padding-free+libs", [9.0, 5.0], gib=6.0),
        measured("litgpt-bf16", [9.0, 3.0]), Measurement("trl-bf16+libs", "S", "not run", reason="no room"),
    ):  # fmt: skip
        results.put(m)
    found = {v.question: v for v in verdict.all_of(results)}
    plain, libraries = found["S: examples/s to the best TRL as it comes"], found["S: examples/s to the best TRL with the same libraries"]
    assert (plain.value, plain.compared_with, plain.reached) == (16.0, "trl-bf16-padding-free", True)
    assert (libraries.value, libraries.reached) == (5.0, False)
    memory = found["S: peak memory to the best TRL as it comes"]
    assert (memory.value, memory.reached) == (0.25, True)
    assert found["D: examples/s to the best TRL as it comes"].value is None


def test_the_verdict_shows_losses_that_part(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.put(measured("feinschliff-fp32", [1.0, 1.0, 1.0], losses=(2.0, 1.5, 1.2)))
    results.put(measured("trl-fp32", [1.0, 1.0], losses=(2.0, 1.0)))
    results.put(measured("trl-bf16", [1.0, 1.0], losses=(9.0, 9.0)))  # not fp32: not compared
    (losses,) = [v for v in verdict.all_of(results) if "losses" in v.question]
    assert (losses.value, losses.reached, losses.compared_with) == (0.5, False, "trl-fp32")


def test_a_child_is_measured_and_stopped_at_its_limit() -> None:
    def start(code: str) -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, text=True)

    ended = children.wait(start("x = bytearray(300 << 20); raise SystemExit(3)"), limit_s=60)
    assert ended.code == 3
    assert ended.peak_rss_bytes > 300 << 20
    assert children.wait(start("import time; time.sleep(60)"), limit_s=0.3).code == -9


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the state of a process from /proc")
def test_a_terminated_benchmark_leaves_no_child(tmp_path: Path) -> None:
    code = f"""
import subprocess, sys
sys.path.insert(0, {str(BENCHMARK)!r})
import children
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True, text=True)
print(child.pid, flush=True)
children.wait(child, limit_s=60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)  # it is waiting by now
    parent.terminate()
    assert parent.wait(10) == 128 + signal.SIGTERM
    parent.stdout.close()
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or status.read_text(encoding="utf-8").split()[2] == "Z"  # dead, if not yet reaped


def test_all_systems_get_the_tokens_of_our_steps(tiny_model: Path, tmp_path: Path) -> None:
    import ours

    from feinschliff.core.jobs import Lora, TrainSpec

    rows = [{"messages": [{"role": r, "content": c[:50]} for r, c in row]} for row in synthetic.shared_prompt(8)]
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [sys.executable, str(BENCHMARK / "prepare.py"), str(chats), str(tiny_model), str(tmp_path / "made")]
    subprocess.run([*command, "--batch", "2", "--steps", "3", "--max-tokens", "4096"], check=True)
    spec = TrainSpec(
        model=str(tiny_model), train_files=(str(tmp_path / "made" / "train.jsonl"),), precision="fp32",
        method=Lora(rank=16, alpha=32.0), hyperparameters=ours.constant(2, 1e-3),
    )  # fmt: skip
    steps = ours.train(tmp_path / "run", spec, limit_s=120).steps
    work = json.loads((tmp_path / "made" / "steps.json").read_text(encoding="utf-8"))
    assert [s.logical_tokens for s in steps] == [w["logical_tokens"] for w in work]
    assert [s.computed_tokens for s in steps] == [w["shared_tokens"] for w in work]
    tokens = [json.loads(line) for line in (tmp_path / "made" / "tokens.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [s.trained_tokens for s in steps] == [sum(t["trained"][1:]) for t in _added(tokens)]
    assert (tmp_path / "made" / "adapter" / "adapter_model.safetensors").stat().st_size > 0


def _added(tokens: list[dict[str, list[int]]]) -> list[dict[str, list[int]]]:
    """Rows of two examples each joined into one."""
    return [{"trained": [0, *a["trained"], *b["trained"]]} for a, b in zip(tokens[::2], tokens[1::2], strict=True)]
