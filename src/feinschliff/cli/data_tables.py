"""What the `data` commands show at a terminal."""
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from feinschliff.core.findings import CheckReport
from feinschliff.data.audit import Audit
from feinschliff.data.curate import Curation
from feinschliff.data.failures import Addition
from feinschliff.data.read import ReadResult
from feinschliff.data.render import Renderer
from feinschliff.data.split import Frozen, Parts
from feinschliff.data.validate import grouped


def show_report(file: Path, result: ReadResult, report: CheckReport) -> None:
    """Findings by kind, the first of each, and the counts."""
    console = Console()
    taken = f"{result.format}, {result.container}" if result.format else result.container
    console.print(Text(f"{file}: {report.n_examples:,} examples ({taken})"), soft_wrap=True)
    for code, findings, n in grouped(report.findings):
        level = findings[0].level
        table = Table(title=f"{n:,} × {code}", title_justify="left", title_style="red" if level == "error" else "yellow")
        table.add_column("line", justify="right")
        table.add_column(level, overflow="fold")
        hints = {finding.hint for finding in findings}
        if len(hints) > 1:
            table.add_column("remedy", overflow="fold")
        elif hints != {""}:
            table.caption, table.caption_justify = Text(hints.pop()), "left"
        for finding in findings:
            cells = (Text(finding.message), Text(finding.hint)) if len(hints) > 1 else (Text(finding.message),)
            table.add_row(str(finding.line or "file"), *cells)
        if n > len(findings):
            table.add_row("…", Text(f"{n - len(findings):,} more; all with --json"))
        console.print(table)
    style = "red" if report.n_errors else "yellow" if report.n_warnings else "green"
    console.print(f"{_count(report.n_errors, 'error')}, {_count(report.n_warnings, 'warning')}", style=style, highlight=False)


def show_tokens(found: Audit, renderer: Renderer) -> None:
    """How large the set is for a model."""
    Console().print(
        f"{found.n_tokens:,} tokens, {found.n_trained:,} of them trained; the longest example has {found.longest:,}"
        f" (line {found.longest_line}); the model takes {renderer.max_tokens or 'any number'}",
        highlight=False, markup=False, soft_wrap=True,
    )


def show_split(out: Path, curation: Curation, parts: Parts, frozen: dict[str, Frozen]) -> None:
    """The parts with their hashes, and what the leakage check found."""
    console = Console()
    table = Table(title=str(out), title_justify="left")
    for name in ("part", "examples", "sha256"):
        table.add_column(name, justify="right" if name == "examples" else "left")
    for name, part in frozen.items():
        table.add_row(name, f"{part.n:,}", part.sha256[:16])
    console.print(table)
    counts = ", ".join(f"{n:,} {kind}" for kind, n in parts.leakage.counts.items())
    console.print(
        f"{curation.n_duplicates:,} duplicates removed. Training rows that give away a test question: {counts}"
        f" (shared answers are only counted). {parts.n_dropped:,} leaking rows removed from training.",
        highlight=False, markup=False, soft_wrap=True,
    )


def show_addition(addition: Addition, training: Path, test: Path, remaining: Path | None) -> None:
    """What was added, what was left out and why, and what moving held-out rows means."""
    console = Console()
    lines = [
        f"{addition.added:,} examples added to {training}, which has {addition.n_training:,} now.",
        f"Left out: {addition.unlabelled:,} not labelled, {addition.already_present:,} there already,"
        f" {addition.refused:,} in the held-out set {test}.",
    ]
    if addition.moved:
        kept = f"The other {addition.n_held_out_left:,} rows are in {remaining}" if remaining else "Freeze a new one"
        lines.append(
            f"{addition.moved:,} of them were held out. {test} no longer measures a model trained on {training}:"
            f" {kept} — run the study with `--test` on the new file, and do not compare with earlier results."
        )
    for text in lines:
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"
