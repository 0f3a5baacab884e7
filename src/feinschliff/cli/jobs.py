"""`feinschliff jobs …`: one job in a remote region from the command line: run it, watch it, deploy it, ask it."""
import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.prompt import Confirm

from feinschliff.app.remote_admission import (
    Estimate,
    admit,
    hosted_name,
    model_there,
    remote_place,
)
from feinschliff.catalog.regions import Azure
from feinschliff.catalog.workload import FileSizes, at_least
from feinschliff.compose import own_market, remote_account, remote_ledger
from feinschliff.core.chat import user
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import BadData, BadStudy, NotOffered, ProviderUnreachable, TrainingFailed
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.jobs import Failed, Finished, Step, Told, TrainEvent, Validation
from feinschliff.data.__main__ import check_file

if TYPE_CHECKING:
    from feinschliff.providers.remote.account import Account, Verb
    from feinschliff.providers.remote.deploying import Deployments
    from feinschliff.providers.remote.orders import Order
    from feinschliff.providers.remote.shapes import RemoteJob, RemoteJobId

app = typer.Typer(help="Jobs of remote regions (Azure OpenAI, an OpenAI account): run, watch, deploy, ask.", no_args_is_help=True)
PATIENCE = 20  # looks in a row without an answer, then the watching ends; the job goes on

Region = Annotated[str, typer.Option("--region", help="A region of regions.toml, of the kind azure or openai.", show_default=False)]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id at its provider.", show_default=False)]


@app.command()
def run(
    train: Annotated[Path, typer.Argument(metavar="TRAIN", help="Training data, in any format that data check reads.", show_default=False)],
    region: Region,
    model: Annotated[str, typer.Option("--model", help="A catalogue id that the region tunes.", show_default=False)],
    validation: Annotated[Path | None, typer.Option("--validation", help="Validation data.", show_default=False)] = None,
    suffix: Annotated[str | None, typer.Option("--suffix", help="Part of the tuned model's name.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, max=50, help="The provider chooses without it.", show_default=False)] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, max=256, help="The provider chooses without it.", show_default=False)] = None,
    multiplier: Annotated[float | None, typer.Option("--multiplier", help="Of the provider's learning rate.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Another seed is another job.", show_default=False)] = None,
    stays_in: Annotated[list[str] | None, typer.Option("--stays-in", help="A region that the data may not leave. May be repeated.", show_default=False)] = None,
    again: Annotated[bool, typer.Option("--again", help="Ask anew for a job that failed or was cancelled.")] = False,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Stay until it has ended.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before starting.")] = False,
) -> None:
    """Tune a model in a remote region. The same command again finds the same job: nothing is paid for twice."""
    from feinschliff.providers.remote.following import expect
    from feinschliff.providers.remote.orders import Order, find_job, place
    from feinschliff.providers.remote.shapes import State

    console = Console()
    market, today = own_market(), datetime.now(UTC).date()
    name, where = remote_place(market.regions, region, market)
    known = model_there(market, model, name, today)
    wanted = TuningHyperparameters(n_epochs=epochs or "auto", batch_size=batch or "auto", learning_rate_multiplier=multiplier or "auto")
    with TemporaryDirectory() as folder, remote_account(name, where, known) as account:
        sizes, rows = _prepared(train, Path(folder) / "train.jsonl")
        held = None if validation is None else _prepared(validation, Path(folder) / "valid.jsonl")[1]
        order = Order(
            model=hosted_name(known), train=rows, validation=held, suffix=suffix, seed=seed, hyperparameters=wanted,
            training=where.training if isinstance(where, Azure) else None,
        )  # fmt: skip
        job = find_job(account, order)
        if job is None or (again and job.state in (State.FAILED, State.CANCELLED)):
            estimate = admit(market, name, known, at_least(sizes), wanted, remote_ledger(name).spent(), stays_in or (), today)
            _plan(console, order, estimate, name, yes)
            job = place(account, order, again=again, sent=_Sent(console))
            expect(account, job, estimate.tokens)
        _say(console, f"{job.id}: {job.status} in {name}")
        if watch:
            _watch(console, account, job, sizes.n_examples, epochs or 0)


@app.command(name="watch")
def watch_(job: JobName, region: Region) -> None:
    """Follow a job to its end: the provider's words, every step with its loss, the model's name."""
    with _account(region) as account:
        _watch(Console(), account, account.job(_id(job)), 0, 0)


@app.command(name="list")
def list_(region: Region) -> None:
    """List the region's jobs, newest first."""
    with _account(region) as account:
        for job in account.jobs():
            _say(Console(), f"{job.id}  {job.status}  {job.model}  {job.fine_tuned_model or '–'}")


@app.command()
def cancel(job: JobName, region: Region) -> None:
    """Cancel a job. What was trained until then is charged."""
    _change(job, region, "cancel")


@app.command()
def pause(job: JobName, region: Region) -> None:
    """Pause a job; paused time is not charged."""
    _change(job, region, "pause")


@app.command()
def resume(job: JobName, region: Region) -> None:
    """Let a paused job go on."""
    _change(job, region, "resume")


@app.command()
def deploy(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A tuned model's name.", show_default=False)],
    region: Region,
    name: Annotated[str, typer.Option("--name", help="The name that it will answer by.", show_default=False)],
    kind: Annotated[Literal["standard", "global", "developer"] | None, typer.Option("--kind", help="Default: the region's.", show_default=False)] = None,
    capacity: Annotated[int | None, typer.Option("--capacity", min=1, help="Thousand tokens a minute. Default: the region's.", show_default=False)] = None,
) -> None:
    """Deploy a tuned model in an Azure resource. Standard and global deployments are charged by the hour until they are undeployed."""
    with _deployments(region) as (deployments, azure):
        made = deployments.deploy(name, model, kind or azure.deployment, capacity or azure.capacity)
    _say(Console(), f"{made.name} answers with {made.model} ({made.sku})")


@app.command()
def undeploy(name: Annotated[str, typer.Argument(metavar="NAME", help="Of the deployment.", show_default=False)], region: Region) -> None:
    """Delete a deployment of an Azure resource; the model stays."""
    with _deployments(region) as (deployments, _):
        deployments.delete(name)
    _say(Console(), f"{name}: deleted")


@app.command()
def ask(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name; at Azure, a deployment's.", show_default=False)],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="Its text.", show_default=False)],
    region: Region,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The longest answer.")] = 256,
) -> None:
    """Ask a model of a remote region one question."""
    with _account(region) as account:
        from feinschliff.providers.remote.responder import RemoteResponder

        (reply,) = asyncio.run(RemoteResponder(account, model, Sampling(max_tokens=max_tokens))([(user(question),)]))
    _say(Console(), reply.text)


@app.command()
def delete(model: Annotated[str, typer.Argument(metavar="MODEL", help="A tuned model's name.", show_default=False)], region: Region) -> None:
    """Delete a tuned model at its provider."""
    with _account(region) as account:
        _say(Console(), f"{model}: {'deleted' if account.delete_model(model) else 'was not there'}")


def _account(region: str) -> "Account":
    market = own_market()
    return remote_account(*remote_place(market.regions, region, market))


def _id(job: str) -> "RemoteJobId":
    from feinschliff.providers.remote.shapes import RemoteJobId

    return RemoteJobId(job)


def _change(job: str, region: str, verb: "Verb") -> None:
    with _account(region) as account:
        _say(Console(), f"{job}: {account.change(_id(job), verb).status}")


@contextmanager
def _deployments(region: str) -> "Iterator[tuple[Deployments, Azure]]":
    market = own_market()
    name, where = remote_place(market.regions, region, market)
    if not isinstance(where, Azure):
        raise NotOffered(f"In {name}, models answer by their names: there is nothing to deploy.", hint=f"feinschliff jobs ask MODEL QUESTION --region {name}")
    from feinschliff.providers.remote.deploying import Deployments

    with Deployments(name, where) as deployments:
        yield deployments, where


def _prepared(file: Path, target: Path) -> tuple[FileSizes, Path]:
    """The file as chats, checked: what a provider would refuse after the upload is refused here. Raises BadData."""
    found = check_file(file, None, target)
    if found.n_errors:
        first = next(f for g in found.groups if g.level == "error" for f in g.first)
        raise BadData(f"{file} has {found.n_errors} errors; line {first.line}: {first.message}", hint=f"feinschliff data check {file}")
    return FileSizes(n_examples=found.n_examples, characters=found.n_characters, longest=found.longest_characters), target


def _plan(console: Console, order: "Order", estimate: Estimate, region: str, yes: bool) -> None:
    price = "price not known (prices.toml)" if estimate.money is None else f"about {estimate.money:,.2f} {estimate.currency}"
    _say(console, f"{order.model} in {region}: at least {estimate.tokens:,} tokens over all epochs, {price}")
    for notice in estimate.notices:
        _say(console, notice)
    if yes:
        return
    if not console.is_terminal:
        raise BadStudy("Nobody is there to confirm the start.", hint="Add --yes.")
    if not Confirm.ask("start?", console=console, default=True):
        raise typer.Exit(1)


class _Sent:
    """Says how far an upload has come, at each tenth."""

    def __init__(self, console: Console) -> None:
        self._console, self._last = console, ("", -1)

    def __call__(self, name: str, sent: int, size: int) -> None:
        tenth = 10 * sent // max(1, size)
        if (name, tenth) != self._last:
            self._last = name, tenth
            _say(self._console, f"{name}: {sent:,} of {size:,} bytes")


def _watch(console: Console, account: "Account", job: "RemoteJob", n_examples: int, n_epochs: int) -> None:
    """Raises TrainingFailed, ProviderUnreachable after many looks without an answer."""
    from feinschliff.providers.remote.events import Mapping
    from feinschliff.providers.remote.following import Following

    following, silent = Following(account, job, Mapping(n_examples, n_epochs)), 0
    last: TrainEvent | None = None
    pauses = account.pauses()
    while not isinstance(last, Failed | Finished):
        try:
            for last in following.look():
                pauses = account.pauses()
                if line := _line(last):
                    _say(console, line)
            silent = 0
        except ProviderUnreachable:
            silent += 1
            if silent == PATIENCE:
                raise
        if not following.job.state.ended or silent:
            time.sleep(next(pauses))
    if isinstance(last, Failed):
        raise TrainingFailed(f"{job.id} failed: {last.message}", hint="Mend what it says; --again asks for a new job.")
    _say(console, f"{following.job.fine_tuned_model}")


def _line(event: TrainEvent) -> str:
    match event:
        case Told(message=message):
            return message
        case Step():
            return f"step {event.step}/{event.total_steps}: training loss {event.train_loss:.3f}"
        case Validation():
            return f"step {event.step}: validation loss {event.valid_loss:.3f}"
        case Finished():
            return f"trained {event.trained_tokens:,} tokens in {event.seconds:.0f} s"
        case _:
            return ""


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
