"""What an arm costs, from the study's prices and its own measurements, and after how many requests a tuned one has paid off."""
import math
from dataclasses import dataclass
from fractions import Fraction

from feinschliff.core.report import Cost
from feinschliff.core.study import Prices, Traffic

HOURS_PER_MONTH = 730  # 8,760 hours a year / 12
NEVER = 10**12  # more requests than this count as never; differences of prices that small are rounding


@dataclass(frozen=True, slots=True)
class Usage:
    """Measured for one arm: mean tokens per request, and the seconds of machine time that training took (0 for untuned arms)."""

    input_tokens: float
    output_tokens: float
    training_s: float = 0.0
    tuned: bool = False


def per_request(prices: Prices, usage: Usage) -> float:
    """Token price of one request, in the study's currency."""
    return (usage.input_tokens * prices.input_million_tokens + usage.output_tokens * prices.output_million_tokens) / 1e6


def cost(prices: Prices, traffic: Traffic, usage: Usage, best_untuned: Cost | None) -> Cost:
    """One arm's cost on one's own machine. Training is its machine time, hosting a month of keeping the tuned model up; both are 0 for
    untuned arms.
    """
    training = usage.training_s / 3600 * prices.machine_hour if usage.tuned else 0.0
    return _cost(prices, training, traffic, usage, best_untuned)


def hosted_cost(
    prices: Prices | None, currency: str, training: float | None, traffic: Traffic, usage: Usage, best_untuned: Cost | None
) -> Cost:
    """One arm's cost at a provider, `training` being what that charged. Of unknown prices there is no cost and no break-even."""
    if prices is None or training is None:
        return Cost(currency=currency, training=training, hosting_month=None, per_request=None, break_even_requests=None)
    return _cost(prices, training, traffic, usage, best_untuned)


def _cost(prices: Prices, training: float, traffic: Traffic, usage: Usage, rival: Cost | None) -> Cost:
    hosting = prices.hosting_hour * HOURS_PER_MONTH if usage.tuned else 0.0
    request = per_request(prices, usage)
    comparable = rival is not None and rival.currency == prices.currency
    saving = rival.per_request - request if rival and comparable and rival.per_request is not None else 0.0
    return Cost(
        currency=prices.currency,
        training=training,
        hosting_month=hosting,
        per_request=request,
        break_even_requests=break_even_requests(
            training=training, hosting_month=hosting, saving_per_request=saving, requests_per_month=traffic.requests_per_month
        ),
    )


def break_even_requests(
    *, training: float, hosting_month: float, saving_per_request: float, requests_per_month: int
) -> int | None:
    """The least N at which N requests through the arm have cost no more, all told, than through the best untuned arm.

    At R requests a month, N requests take N/R months, so hosting for them costs H·N/R. With training F and a saving of
    s per request: N·s ≥ F + H·N/R, hence N = ceil(F / (s − H/R)). None where s − H/R ≤ 0 (each request saves no more than
    its share of the hosting), where there is hosting but no traffic stated, and beyond NEVER. Exact in fractions.
    """
    share = Fraction(0)
    if hosting_month > 0:
        if requests_per_month == 0:
            return None
        share = Fraction(hosting_month) / requests_per_month
    net = Fraction(saving_per_request) - share
    if net <= 0:
        return None
    n = math.ceil(Fraction(training) / net)
    return n if n <= NEVER else None


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """What `requests` have cost all told, through the tuned arm and through the untuned one."""

    requests: int
    tuned: float
    untuned: float


def curve(
    *, training: float, hosting_month: float, tuned_request: float, untuned_request: float, requests_per_month: int, break_even: int | None
) -> tuple[CurvePoint, ...]:
    """From nothing to twice the break-even; where there is none, over a year of the stated traffic (empty without any)."""
    last = 2 * break_even if break_even else 12 * requests_per_month
    if not last:
        return ()
    points: list[CurvePoint] = []
    for eighth in range(9):
        n = last * eighth // 8
        hosted = hosting_month * n / requests_per_month if requests_per_month else 0.0
        points.append(CurvePoint(n, training + hosted + n * tuned_request, n * untuned_request))
    return tuple(points)
