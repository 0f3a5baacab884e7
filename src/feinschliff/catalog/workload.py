"""A training job in tokens: what its file comes to, before and after the model's tokenizer has counted it."""
from feinschliff.catalog.fit import SHORTEST, Work
from feinschliff.core.chat import Wire
from feinschliff.core.finetune import TuningHyperparameters

# More characters than tokenizers put into a token of running text, on average; so a count by it is too low, never too high.
MOST_CHARACTERS = 6
AUTO_BATCH = 16  # what "auto" usually comes to (train.auto)


class FileSizes(Wire):
    """A training file in characters of its messages' texts."""

    n_examples: int
    characters: int
    longest: int  # example


class Counted(Wire):
    """A training file in tokens. `exact`: counted by the model's tokenizer; otherwise it has at least so many."""

    n_examples: int
    tokens: int
    trained: int
    longest: int  # example
    exact: bool = True


def at_least(sizes: FileSizes) -> Counted:
    """What any tokenizer makes of it, the chat template's own tokens left out."""
    tokens = sizes.characters // MOST_CHARACTERS
    return Counted(
        n_examples=sizes.n_examples, tokens=tokens, trained=tokens // 2, longest=sizes.longest // MOST_CHARACTERS, exact=False
    )


def auto_epochs(n_examples: int) -> int:
    """Three, but so many that 100 examples are seen and so few that it is 25,000; between 1 and 25 (OpenAI Cookbook, "Data
    preparation and analysis for chat model fine-tuning", 2023).
    """
    n = max(1, n_examples)
    if 3 * n < 100:
        return min(25, 100 // n)
    return max(1, 25_000 // n) if 3 * n > 25_000 else 3


def work_of(counted: Counted | None, wanted: TuningHyperparameters) -> Work:
    """What the job computes; of a file that nobody has looked at yet, one short example."""
    if counted is None or not counted.n_examples:
        return Work(longest=SHORTEST, step=SHORTEST)
    batch = AUTO_BATCH if wanted.batch_size == "auto" else wanted.batch_size
    epochs = auto_epochs(counted.n_examples) if wanted.n_epochs == "auto" else wanted.n_epochs
    longest = max(counted.longest, 1)
    step = max(longest, batch * counted.tokens // counted.n_examples)
    return Work(longest=longest, step=step, per_epoch=counted.tokens, trained=counted.trained, epochs=epochs)
