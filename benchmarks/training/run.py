"""Training speed side by side: feinschliff, TRL, LLaMA-Factory and litgpt on the same tokens from the same first adapter.

    python benchmarks/training/run.py [--data S,D,...] [--systems ...] [--device cpu|cuda] [--steps 10] [--peer-steps 3] [--again]

Every system runs in a process and an environment of its own, made on first use. The results file is written after each
measurement; what stands in it is not measured again unless --again is given. A table, a chart (SVG beside the results) and the
issue's ratios come last. Nothing else should run on the machine.
"""
import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import children
import environments
import ours
import picture
import torch
import verdict
from prepared import ALPHA, RANK, Prepared, Unprepared, prepare
from results import ROOT, WARM_UP, Measurement, Results, commit
from systems import CASES, MAX_TOKENS, OURS, SYSTEMS, Case, Device, System
from table import show
from work import Shape

from feinschliff.compose import model_folder
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.jobs import Lora, TrainSpec

HERE = Path(__file__).resolve().parent
MODEL = "smollm2-135m-instruct"
LEARNING_RATE = 2e-4


def main() -> None:
    a = _arguments()
    usual = "training.json" if a.device == "cpu" else f"training-{a.device}.json"
    out = a.out or (environments.CACHE / f"smoke-{usual}" if a.smoke else ROOT / "benchmarks" / "results" / usual)
    results = Results(out)
    model = model_folder(MODEL)
    for name in a.data:
        case = _smoke(CASES[name]) if a.smoke else CASES[name]
        try:
            prepared = prepare(case, model, WARM_UP + max(a.steps, a.peer_steps), smoke=a.smoke)
        except Unprepared as why:
            for system in a.systems or case.on(a.device):
                results.put(Measurement(system, name, "not run", reason=str(why)))
            continue
        known = {s.name for s in SYSTEMS.values() if (before := results.get(name, s.name)) is not None and before.status == "measured"}
        wanted = [SYSTEMS[s] for s in a.systems or case.on(a.device) if a.again or s not in known]
        if wanted and (a.again or name not in results.rates):
            results.rates[name] = _rates(model, a.device, repeats=3 if a.smoke else 15)
        for system in wanted:
            print(f"benchmark: {name}, {system.name}", flush=True)
            steps = WARM_UP + (a.steps if system.program == OURS else a.peer_steps)
            results.put(_measure(system, name, prepared, model, steps, a))
    results.verdict = [asdict(v) for v in verdict.all_of(results)] if a.device == "cpu" else []  # the goals are for CPUs
    results.save()
    show(results)
    print(f"benchmark: {out}, {picture.draw(results, out.with_suffix('.svg'))}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=_names(CASES), default=list(CASES), help=f"of {','.join(CASES)}")
    parser.add_argument("--systems", type=_names(SYSTEMS), help=f"of {','.join(SYSTEMS)}; by default those of each data set")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of feinschliff, after one that warms up")
    parser.add_argument("--peer-steps", type=int, default=3, help="the same of the others, which are slower")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds after which a system is stopped")
    parser.add_argument("--again", action="store_true", help="measure anew what the results file holds")
    parser.add_argument("--smoke", action="store_true", help="two short examples a step, to see that all of it works")
    parser.add_argument("--out", type=Path, help="benchmarks/results/training.json unless it is a smoke test")
    return parser.parse_args()


def _smoke(case: Case) -> Case:
    """Two short examples a step; one at a time where the real case takes several passes."""
    return Case(case.data, 2, case.systems, at_a_time=1 if case.batch > 8 else case.at_a_time)


def _names(known: dict[str, Case] | dict[str, System]):  # noqa: ANN202 – argparse's type
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [n for n in names if n not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is not one of {', '.join(known)}")
        return names

    return parse


def _rates(model: Path, device: Device, repeats: int) -> dict[str, float]:
    command = [sys.executable, str(HERE / "rates.py"), str(model), "--device", device, "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["gflops"]


def _measure(system: System, case: str, prepared: Prepared, model: Path, steps: int, a: argparse.Namespace) -> Measurement:
    measure = _ours if system.program == OURS else _peer
    try:
        if a.device not in system.devices:
            raise environments.Unavailable(f"it is measured on {' and '.join(system.devices)} only, and this is {a.device}")
        found = measure(system, case, prepared, model, steps, a)
    except (environments.Unavailable, ours.Broken, FeinschliffError) as why:
        print(f"benchmark: not run: {why}", flush=True)
        return Measurement(system.name, case, "not run", reason=str(why), commit=commit())
    print(f"benchmark: {', '.join(f'{s:.2f}' for s in found.measured)} s/step, {found.peak_rss_bytes / 2**30:.1f} GiB", flush=True)
    return found


def _ours(system: System, case: str, prepared: Prepared, model: Path, steps: int, a: argparse.Namespace) -> Measurement:
    """The whole prepared file: its order of steps is a function of its length."""
    del steps
    spec = TrainSpec(
        model=str(model), train_files=(str(prepared.folder / "train.jsonl"),), method=Lora(rank=RANK, alpha=ALPHA),
        hyperparameters=ours.constant(prepared.case.batch, LEARNING_RATE), precision=system.precision, max_tokens=MAX_TOKENS,
        save_every_steps=10**6, device=a.device,
    )  # fmt: skip
    trained = ours.train(environments.CACHE / "runs" / f"{case}-{system.name}", spec, limit_s=a.limit)
    return Measurement(
        system.name, case, "measured", precision=system.precision, commit=commit(),
        seconds=[s.seconds for s in trained.steps], losses=[s.train_loss for s in trained.steps],
        examples=[w.examples for w in prepared.work], logical_tokens=[s.logical_tokens for s in trained.steps],
        computed_tokens=[s.computed_tokens for s in trained.steps], needed_flops=prepared.needed(Shape.of(model), shared=True),
        peak_rss_bytes=trained.finished.peak_memory_bytes, wall_s=trained.wall_s, threads=environments.threads(),
        libraries="as the program sets them itself", versions=environments.our_versions(),
    )  # fmt: skip


def _peer(system: System, case: str, prepared: Prepared, model: Path, steps: int, a: argparse.Namespace) -> Measurement:
    python = environments.python_of(system.program)
    environment, said = environments.same_libraries() if system.libraries else (environments.as_it_comes(), "as it comes")
    run_dir = environments.CACHE / "runs" / f"{case}-{system.name}"
    job = {
        "model": str(model), "adapter": str(prepared.folder / "adapter"), "tokens": str(prepared.folder / "tokens.jsonl"),
        "out": str(run_dir), "result": str(run_dir / "result.json"), "batch": prepared.case.batch,
        "micro_batch": prepared.case.micro_batch(prepared.longest), "steps": steps, "learning_rate": LEARNING_RATE,
        "precision": system.precision, "rank": RANK, "alpha": ALPHA, "padding_free": system.padding_free,
        "packing": system.packing, "packed_tokens": prepared.packed_tokens,
        "device": a.device, "liger": system.liger,
    }  # fmt: skip
    ended = children.run_script(python, HERE / "peers" / system.script, job, run_dir, environment, a.limit)
    if not (run_dir / "result.json").exists():
        raise environments.Unavailable(f"ended with code {ended.code}: {children.last_lines(run_dir / 'log.txt')}")
    found = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    n = len(found["seconds"])
    shares = [e / w.examples for e, w in zip(found["examples"], prepared.work, strict=False)][:n]
    return Measurement(
        system.name, case, "measured", precision=system.precision, commit=commit(),
        seconds=found["seconds"], losses=found["losses"], examples=found["examples"][:n],
        logical_tokens=[round(s * w.logical_tokens) for s, w in zip(shares, prepared.work, strict=False)],
        computed_tokens=found["computed_tokens"][:n],
        needed_flops=[s * f for s, f in zip(shares, prepared.needed(Shape.of(model), shared=False), strict=False)],
        peak_rss_bytes=found["peak_rss_bytes"], wall_s=ended.wall_s, threads=found["threads"], libraries=said,
        versions=found["versions"], notes=found["notes"],
    )  # fmt: skip


if __name__ == "__main__":
    main()
