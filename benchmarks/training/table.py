"""The results as tables for the terminal."""
import verdict
from results import Measurement, Results
from rich.console import Console
from rich.table import Table
from systems import CASES


def show(results: Results) -> None:
    console = Console(width=max(150, Console().width))
    for case in CASES:
        runs = results.case(case)
        if runs:
            console.print(_case(results, case, runs))
        for m in runs:
            if m.reason:
                console.print(f"{m.system} was not run: {m.reason}", markup=False)
    if results.verdict:
        console.print(_verdicts(results))


def _case(results: Results, case: str, runs: list[Measurement]) -> Table:
    rates = results.rates.get(case, {})
    said = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    table = Table(title=f"{case}: {examples_a_step(runs)} examples a step (matrix products alone, GFLOP/s: {said})")
    table.add_column("system")
    common = min((len(m.losses) for m in runs if m.losses), default=0)  # losses are of the same step
    for column in ("s/step", "min–max", "examples/s", "tokens/s", "GiB", "GFLOP/s", "of rate", f"loss, step {common}", "ours is faster by"):
        table.add_column(column, justify="right")
    ours = next((m for m in runs if m.system == verdict.OURS and m.measured), None)
    for m in sorted(runs, key=lambda m: -m.examples_per_s() if m.measured else 0.0):
        table.add_row(m.system, *_cells(m, ours, rates, common))
    return table


def examples_a_step(runs: list[Measurement]) -> int:
    """Packed rows hold more or fewer, so ours counts."""
    return next((m.examples[0] for m in runs if m.examples and "packing" not in m.system), 0)


def _cells(m: Measurement, ours: Measurement | None, rates: dict[str, float], common: int) -> list[str]:
    s = m.summary()
    if not s:
        return ["not run"]
    rate = rates.get("bf16") if m.precision == "bf16" else max((rates.get("fp32", 0.0), rates.get("fp32_onednn", 0.0)))
    return [
        f"{s['seconds_median']:.2f}", f"{s['seconds_min']:.2f}–{s['seconds_max']:.2f}", f"{s['examples_per_s']:.2f}",
        f"{s['logical_tokens_per_s']:.0f}", f"{s['peak_rss_gib']:.1f}", f"{s['gflops']:.0f}",
        f"{s['gflops'] / rate:.0%}" if rate else "", f"{m.losses[common - 1]:.4f}" if m.losses else "",
        f"{verdict.speed_ratio(ours, m):.1f}×" if ours is not None and m.system != ours.system else "",
    ]  # fmt: skip


def _verdicts(results: Results) -> Table:
    table = Table(title="what issue 3 asks for")
    for column in ("question", "compared with", "measured", "goal", ""):
        table.add_column(column)
    for v in verdict.all_of(results):
        value = "not measured" if v.value is None else f"{v.value:.2g}" if v.goal < 0.01 else f"{v.value:.2f}"
        goal = f"{'at least' if v.at_least else 'at most'} {v.goal:g}"
        table.add_row(v.question, v.compared_with, value, goal, "" if v.value is None else "reached" if v.reached else "missed")
    return table
