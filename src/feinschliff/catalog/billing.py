"""What a job is charged, and whether a budget lets it start. Pure functions on a job's record, for the service and for reports.

The rules are the hosted ones (learn.microsoft.com, fine-tuning cost management, of 2026-03-19): nothing for time in the queue, for
checks of the data, for paused time, for failed jobs, and for jobs that were cancelled before training began; a job that is cancelled
later pays for what was done until then.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from feinschliff.catalog.prices import MachinePrice, Price
from feinschliff.catalog.regions import Quota
from feinschliff.core.chat import Wire
from feinschliff.core.errors import OverBudget

Phase = Literal["queued", "validating", "running", "paused"]
Outcome = Literal["running", "succeeded", "cancelled", "failed"]


class Period(Wire):
    """A stretch of a job's life."""

    phase: Phase
    seconds: float = Field(ge=0)


class JobRecord(Wire):
    """A job as far as it has come: its outcome ("running" while it goes on), its periods, and the tokens trained over all epochs."""

    outcome: Outcome
    periods: tuple[Period, ...] = ()
    trained_tokens: int = Field(0, ge=0)

    @property
    def running_s(self) -> float:
        return sum(p.seconds for p in self.periods if p.phase == "running")


def hosted_charge(price: Price, record: JobRecord) -> float:
    """In the price's currency. Raises NoPrice."""
    if record.outcome == "failed" or not record.running_s:
        return 0.0
    return price.training(tokens=record.trained_tokens, seconds=record.running_s)


def machine_charge(price: MachinePrice, record: JobRecord) -> float:
    """In the machine's currency, by the same rules."""
    return 0.0 if record.outcome == "failed" else price.hour * record.running_s / 3600


class Spent(Wire):
    """What a region, a project or a user has used in the calendar month, with what running jobs are expected to need."""

    training_tokens: int = Field(0, ge=0)
    money: float = Field(0.0, ge=0)
    jobs: int = Field(0, ge=0)


@dataclass(frozen=True, slots=True)
class Budget:
    """Whose it is, for messages, and how much of it is gone."""

    whose: str
    quota: Quota
    spent: Spent


def check_budget(asked: Spent, budgets: Sequence[Budget], currency: str = "USD", *, at_least: bool = False) -> None:
    """Raises OverBudget, before a job starts, where it would exceed one of them; all that are exceeded are named.

    `asked` is the job's estimate, itself as one job included; with `at_least` it may still turn out to be more.
    """
    problems: list[str] = []
    needs = "needs at least" if at_least else "needs"
    for budget in budgets:
        quota, spent = budget.quota, budget.spent
        sides = (
            ("training tokens", quota.training_tokens_per_month, asked.training_tokens, spent.training_tokens, needs),
            (currency, quota.money_per_month, asked.money, spent.money, needs),
            ("jobs", quota.jobs_per_month, asked.jobs, spent.jobs, "needs"),
        )
        problems += [
            f"{budget.whose}: {_amount(limit)} {unit} a month, {_amount(used)} used, this job {verb} {_amount(more)}"
            for unit, limit, more, used, verb in sides
            if limit is not None and used + more > limit
        ]
    if problems:
        raise OverBudget(
            "The job would go beyond its budget and was not started. " + "; ".join(problems) + ".",
            hint="Train on fewer examples or epochs, choose a cheaper model, raise the quota, or wait for the next month.",
        )


def _amount(x: float) -> str:
    return f"{x:,}" if isinstance(x, int) else f"{x:,.2f}"
