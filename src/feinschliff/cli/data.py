"""`feinschliff data …`: check, convert, split and look at training data; add labelled failures to it."""
import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from feinschliff.cli.data_tables import show_addition, show_report, show_split, show_tokens
from feinschliff.core.chat import Example
from feinschliff.core.errors import BadData, FolderInUse
from feinschliff.core.study import Format, Mapping, Split
from feinschliff.data.convert import write_jsonl
from feinschliff.data.curate import Curation, curate
from feinschliff.data.failures import add_failures, find_held_out
from feinschliff.data.files import write_atomically
from feinschliff.data.read import ReadResult, load, read
from feinschliff.data.render import Renderer
from feinschliff.data.split import Frozen, Parts, freeze, split
from feinschliff.data.validate import report_of

app = typer.Typer(help="Check, convert, split and look at training data.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="JSONL, JSON, CSV, TSV or Parquet.", show_default=False)]
FormatOption = Annotated[
    str, typer.Option("--format", help="auto, chat, completion, alpaca or sharegpt; with --input/--output: mapped.")
]
Input = Annotated[str | None, typer.Option("--input", help="Field that holds the question.", show_default=False)]
Output = Annotated[str | None, typer.Option("--output", help="Field that holds the answer.", show_default=False)]
System = Annotated[str | None, typer.Option("--system", help="Text of the system message.", show_default=False)]
InputTemplate = Annotated[
    str | None, typer.Option(help="Jinja2 over the row, in place of --input: '{{ nl }} ({{ date }})'.", show_default=False)
]
OutputTemplate = Annotated[
    str | None, typer.Option(help="Jinja2 over the row, in place of --output.", show_default=False)
]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="Catalogue id or folder: counts its tokens too.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command()
def check(
    file: File,
    model: ModelOption = None,
    format: FormatOption = "auto",
    input: Input = None,
    output: Output = None,
    system: System = None,
    input_template: InputTemplate = None,
    output_template: OutputTemplate = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest example allowed.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with a data file, line by line. Ends with 1 where there are errors."""
    result = read(file, _format(format), _mapping(input, output, system, input_template, output_template))
    renderer = _renderer(model) if model else None
    report, audit = report_of(result, renderer=renderer, max_tokens=max_tokens)
    if as_json:
        typer.echo(report.model_dump_json())
    else:
        show_report(file, result, report)
        if renderer is not None and audit is not None:
            show_tokens(audit, renderer)
    raise typer.Exit(1 if report.n_errors else 0)


@app.command()
def convert(
    file: File,
    out: Annotated[Path, typer.Argument(help="Chat JSONL to write.", show_default=False)],
    format: FormatOption = "auto",
    input: Input = None,
    output: Output = None,
    system: System = None,
    input_template: InputTemplate = None,
    output_template: OutputTemplate = None,
    keep_fields: Annotated[
        bool, typer.Option(help="Keep the other fields under `meta` (hosted services refuse them).")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Turn any supported format into chat JSONL. A file with errors is not converted."""
    examples = load(file, _format(format), _mapping(input, output, system, input_template, output_template))
    write_jsonl(out, examples, with_meta=keep_fields, force=force)
    Console().print(f"{len(examples):,} examples written to {out}", highlight=False, markup=False, soft_wrap=True)


@app.command(name="split")
def split_command(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Folder for the parts and split.json.", show_default=False)],
    test: Annotated[float, typer.Option(min=0, max=0.99, help="Share held out.")] = 0.15,
    validation: Annotated[float, typer.Option(min=0, max=0.99, help="Share for the validation loss.")] = 0.05,
    group: Annotated[
        str | None, typer.Option(help="Rows with the same value of this field stay together.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed, another split.")] = 0,
    near_duplicate: Annotated[float, typer.Option(min=0.3, max=1, help="Similarity that counts as a leak.")] = 0.9,
    held_out: Annotated[
        Path | None, typer.Option(help="Use this file as the test part; --test is then ignored.", show_default=False)
    ] = None,
    keep_leaks: Annotated[bool, typer.Option("--keep-leaks", help="Report leaks, but leave them in.")] = False,
    format: FormatOption = "auto",
    input: Input = None,
    output: Output = None,
    system: System = None,
    input_template: InputTemplate = None,
    output_template: OutputTemplate = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier split in OUT.")] = False,
    as_json: AsJson = False,
) -> None:
    """Cut train, validation and test, the same way every time, and keep test questions out of train."""
    _refuse_earlier_split(out, force)
    mapping = _mapping(input, output, system, input_template, output_template)
    examples, curation = curate(load(file, _format(format), mapping))
    spec = Split(
        test=test, validation=validation, group=group, seed=seed, near_duplicate=near_duplicate,
        leaks="report" if keep_leaks else "drop_from_train",
    )
    parts = split(examples, spec, load(held_out, _format(format), mapping) if held_out else None)
    frozen = freeze(out, parts)
    summary = _split_summary(file, spec, curation, parts, frozen)
    text = json.dumps(summary, ensure_ascii=False, indent=1)
    write_atomically(out / "split.json", (text + "\n").encode())
    if as_json:
        typer.echo(text)
    else:
        show_split(out, curation, parts, frozen)


@app.command()
def show(
    file: File,
    model: Annotated[str, typer.Option("--model", help="Catalogue id or folder.", show_default=False)],
    line: Annotated[int, typer.Option("--line", min=0, help="Line of the example; 0: the first one.")] = 0,
    ids: Annotated[bool, typer.Option("--ids", help="Show token ids beside the texts.")] = False,
    format: FormatOption = "auto",
    input: Input = None,
    output: Output = None,
    system: System = None,
    input_template: InputTemplate = None,
    output_template: OutputTemplate = None,
    as_json: AsJson = False,
) -> None:
    """Show one example as the model sees it: trained tokens are green, the others grey."""
    result = read(file, _format(format), _mapping(input, output, system, input_template, output_template))
    example = _example_at(result, file, line)
    renderer = _renderer(model)
    rendered = renderer.render(example)
    if as_json:
        variants = [
            {"tokens": list(r.tokens), "weights": list(r.weights), "texts": renderer.token_texts(r.tokens),
             "n_prompt": r.n_prompt, "n_trained": r.n_trained}
            for r in rendered
        ]
        typer.echo(json.dumps({"line": example.line, "id": example.id, "rendered": variants}, ensure_ascii=False))
        return
    console = Console()
    for i, r in enumerate(rendered, start=1):
        part = f", part {i} of {len(rendered)}" if len(rendered) > 1 else ""
        console.print(f"Line {example.line}{part}: {len(r.tokens)} tokens, {r.n_trained} trained", style="bold")
        text = Text()
        for token, weight, piece in zip(r.tokens, r.weights, renderer.token_texts(r.tokens), strict=True):
            text.append(f"{piece}⟨{token}⟩" if ids else piece, style="green" if weight > 0 else "bright_black")
        console.print(text)


@app.command(name="add-failures")
def add_failures_command(
    failures: Annotated[Path, typer.Argument(help="failures.jsonl of a study, labelled.", show_default=False)],
    training: Annotated[Path, typer.Argument(help="Chat JSONL to add to.", show_default=False)],
    held_out: Annotated[
        Path | None,
        typer.Option(help="The study's frozen test file; by default test.jsonl near FAILURES.", show_default=False),
    ] = None,
    from_held_out: Annotated[
        bool, typer.Option("--from-held-out", help="Also move rows of the held-out set into training.")
    ] = False,
    remaining: Annotated[
        Path | None, typer.Option(help="With --from-held-out: where the rest of the held-out set goes.", show_default=False)
    ] = None,
) -> None:
    """Add labelled failures to the training data; rows of the held-out set are refused."""
    test = held_out or find_held_out(failures)
    if test is None:
        raise BadData(
            f"No frozen held-out file (test.jsonl) was found near {failures}.",
            hint="Name it with --held-out FILE: without it, test questions could slip into training.",
        )
    if remaining is not None and not from_held_out:
        raise BadData("--remaining goes with --from-held-out.", hint="Add --from-held-out, or leave it out.")
    addition = add_failures(failures, training, test, from_held_out=from_held_out, remaining=remaining)
    show_addition(addition, training, test, remaining)


def _format(name: str) -> Format:
    formats: tuple[Format, ...] = ("auto", "chat", "completion", "alpaca", "sharegpt", "mapped")
    for known in formats:
        if name == known:
            return known
    raise BadData(f"There is no format {name!r}.", hint=f"Known: {', '.join(formats)}.")


def _mapping(
    input: str | None, output: str | None, system: str | None, input_template: str | None, output_template: str | None
) -> Mapping | None:
    if not (input or output or system or input_template or output_template):
        return None
    try:
        return Mapping(
            input=input, output=output, system=system, input_template=input_template, output_template=output_template
        )
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise BadData(f"The mapping is incomplete: {reason}.", hint="Example: --input question --output answer.") from None


def _renderer(model: str) -> Renderer:
    from feinschliff.compose import model_folder  # here, so that commands without a model start fast

    return Renderer.of(model_folder(model))


def _example_at(result: ReadResult, file: Path, line: int) -> Example:
    for example in result.examples:
        if line in (0, example.line):
            return example
    for finding in result.errors:
        if finding.line in (0, line) or line == 0:
            raise BadData(f"{file}, line {finding.line}: {finding.message}", hint=finding.hint)
    raise BadData(f"{file} has no example on line {line}.", hint=f"It has {result.n_records} records.")


def _refuse_earlier_split(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise FolderInUse(f"{out} is a file, not a folder.", hint="Choose another --out.")
    if (out / "split.json").exists() and not force:
        raise FolderInUse(
            f"{out} holds a split already; a held-out set stays frozen.", hint="Choose another --out, or --force."
        )


def _split_summary(
    file: Path, spec: Split, curation: Curation, parts: Parts, frozen: dict[str, Frozen]
) -> dict[str, object]:
    leakage = parts.leakage
    return {
        "source": str(file),
        "spec": spec.model_dump(),
        "n_read": curation.n_in,
        "n_duplicates_removed": curation.n_duplicates,
        "n_stripped": len(curation.stripped),
        "parts": {name: {"n": part.n, "sha256": part.sha256} for name, part in frozen.items()},
        "leakage": {
            "counts": leakage.counts,
            "n_removed": parts.n_dropped,
            "pairs": [
                {"kind": p.kind, "similarity": p.similarity, "train_id": p.train_id, "train_line": p.train_line,
                 "test_id": p.test_id, "test_line": p.test_line}
                for p in leakage.leaks
            ],
        },
    }
