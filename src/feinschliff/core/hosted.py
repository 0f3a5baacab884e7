"""What is paid elsewhere."""
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spending:
    """What a study's calls of one provider came to, asked twice after a kill or not. Money is None where a price is not known."""

    currency: str
    answers: int = 0  # requests
    input_tokens: int = 0
    output_tokens: int = 0
    answers_money: float | None = 0.0
    training_money: float | None = 0.0
