"""Prices: of hosted models by token and hour, of one's own machines by hour and kilowatt hour. A price that is not known is None."""
import tomllib
from datetime import date
from importlib.resources import files
from pathlib import Path

from pydantic import Field, ValidationError

from feinschliff.catalog.models import CatalogModel, Provider
from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadStudy, NoPrice

MILLION = 1_000_000


class Price(Wire):
    """Of one hosted model. Tuned models may cost more per token than their base: then the base's prices are the `untuned_` ones."""

    provider: Provider
    model: str
    version: str | None = None
    currency: str = "USD"
    training_million_tokens: float | None = Field(None, ge=0)
    training_hour: float | None = Field(None, ge=0)  # where training is billed by time
    hosting_hour: float = Field(0.0, ge=0)  # of a deployed tuned model, used or not
    input_million_tokens: float | None = Field(None, ge=0)
    output_million_tokens: float | None = Field(None, ge=0)
    untuned_input_million_tokens: float | None = Field(None, ge=0)
    untuned_output_million_tokens: float | None = Field(None, ge=0)
    source: str
    read: date

    def training(self, *, tokens: int, seconds: float) -> float:
        """Of `tokens` over all epochs, or of `seconds` of training, as this model is billed. Raises NoPrice."""
        if self.training_million_tokens is not None:
            return tokens / MILLION * self.training_million_tokens
        if self.training_hour is not None:
            return seconds / 3600 * self.training_hour
        raise no_price(self.model, "training")

    def request(self, input_tokens: float, output_tokens: float, *, tuned: bool) -> float:
        """Of one request. Raises NoPrice."""
        per_input, per_output = self.input_million_tokens, self.output_million_tokens
        if not tuned and self.untuned_input_million_tokens is not None:
            per_input, per_output = self.untuned_input_million_tokens, self.untuned_output_million_tokens
        if per_input is None or per_output is None:
            raise no_price(self.model, "answers")
        return (input_tokens * per_input + output_tokens * per_output) / MILLION


class MachinePrice(Wire):
    """Of one's own machine: rent or wear by the hour, and electricity."""

    currency: str = "USD"
    per_hour: float = Field(0.0, ge=0)
    watts: float = Field(0.0, ge=0)  # drawn while it works
    kilowatt_hour: float = Field(0.0, ge=0)

    @property
    def hour(self) -> float:
        return self.per_hour + self.watts / 1000 * self.kilowatt_hour


class Prices(Wire):
    """`prices.toml`."""

    prices: tuple[Price, ...] = ()
    machine: MachinePrice | None = None

    def of(self, model: CatalogModel) -> Price | None:
        return next((p for p in self.prices if (p.provider, p.model, p.version) == (model.provider, model.id, model.version)), None)

    def needed(self, model: CatalogModel) -> Price:
        """Raises NoPrice."""
        price = self.of(model)
        if price is None:
            raise no_price(model.id, "it")
        return price

    @property
    def machine_hour(self) -> float:
        return self.machine.hour if self.machine else 0.0

    def with_own(self, own: "Prices") -> "Prices":
        """A user's entry replaces that of the same provider, model and version as a whole."""
        merged = {(p.provider, p.model, p.version): p for p in (*self.prices, *own.prices)}
        return Prices(prices=tuple(merged.values()), machine=own.machine or self.machine)


def money(amount: float) -> str:
    """Cents, or as many digits as a small amount needs."""
    return f"{amount:,.2f}" if amount == 0 or amount >= 0.1 else f"{amount:.2g}"


def no_price(model: str, what: str) -> NoPrice:
    return NoPrice(
        f"The price of {model} for {what} is not known.",
        hint="Write it into prices.toml in the settings folder, with its source and date; docs/catalogue.md shows the form.",
    )


def load_prices(extra: Path | None = None) -> Prices:
    """The built-in prices, with the user's file on top. Raises BadStudy where that is malformed."""
    built_in = Prices.model_validate(tomllib.loads(files("feinschliff.catalog").joinpath("prices.toml").read_text(encoding="utf-8")))
    if extra is None:
        return built_in
    try:
        return built_in.with_own(Prices.model_validate(tomllib.loads(extra.read_text(encoding="utf-8"))))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadStudy(f"{extra} is not a list of prices: {error}", hint="docs/catalogue.md shows the form.") from error
