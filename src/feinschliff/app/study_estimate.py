"""What a study will cost, from its file and its data, before anything runs."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feinschliff.app.study_cost import CostSheet, sheet
from feinschliff.app.study_file import prompt_text
from feinschliff.app.study_rates import HERE, Place, Rates
from feinschliff.catalog.fit import Fit, Work
from feinschliff.catalog.workload import AUTO_BATCH, auto_epochs
from feinschliff.core.errors import BadStudy
from feinschliff.core.jobs import Auto
from feinschliff.core.study import Study, ingredients
from feinschliff.data.curate import curate
from feinschliff.data.read import load
from feinschliff.data.render import Renderer
from feinschliff.data.split import take
from feinschliff.evals.compare import is_tuned

SAMPLE = 2000  # examples that are rendered; their mean stands for all


@dataclass(frozen=True, slots=True)
class Sizes:
    """A study's data in tokens: means per example unless said otherwise."""

    n_train: int
    tokens: float
    prompt: float  # before the answer
    answer: float
    longest: int  # training example, its context included
    per_word: float

    @classmethod
    def of(cls, study: Study, base: Path, renderer: Renderer) -> "Sizes":
        """Read and render the data; leaks between the parts are not looked for. Raises BadData."""
        examples = curate([e for name in study.data.files for e in load(base / name, study.data.format, study.data.mapping)])[0]
        if study.data.max_examples is not None:
            examples = take(examples, study.data.max_examples, study.split.seed)
        held_out = study.split.validation + (0.0 if study.split.test_files else study.split.test)
        sample = examples[:: -(-len(examples) // SAMPLE)] if examples else ()
        rendered = [r for e in sample for r in renderer.render(e)]
        if not rendered:
            raise BadStudy("The study's data has no examples to train on.", hint="feinschliff data check says what is wrong with it.")
        tokens, trained = _mean(len(r.tokens) for r in rendered), _mean(r.n_trained for r in rendered)
        words = sum(len((m.content or "").split()) for e in sample for m in e.messages)
        return cls(
            n_train=round(len(examples) * (1 - held_out)), tokens=tokens, prompt=tokens - trained, answer=trained,
            longest=max(len(r.tokens) for r in rendered), per_word=sum(len(r.tokens) for r in rendered) / max(1, words),
        )  # fmt: skip


def estimate(
    study: Study, base: Path, renderer: Renderer, rates: Rates, hosts: Mapping[str, Rates], forecast: Callable[[Work], Fit] | None = None
) -> CostSheet:
    """Before anything runs. `forecast` says whether and how fast the training goes where it would run; None where nobody knows."""
    sizes = Sizes.of(study, base, renderer)
    extra = _Extra(study, base, renderer, sizes)
    h = study.training.hyperparameters
    epochs = _epochs(h.n_epochs, sizes)
    batch = AUTO_BATCH if h.batch_size == "auto" else h.batch_size
    contexts = [extra.of(c) for c in study.training.contexts]
    mean = sizes.tokens + _mean(contexts)
    per_epoch = round(sizes.n_train * mean)
    work = Work(
        longest=round(sizes.longest + max(contexts)), step=max(1, round(batch * mean)), per_epoch=per_epoch,
        trained=round(sizes.n_train * sizes.answer), epochs=epochs,
    )  # fmt: skip
    fit = forecast(work) if forecast else None
    places = {HERE: Place(rates, epochs * per_epoch, fit.seconds if fit else None)}
    for name, there in hosts.items():
        chosen = study.hosted[name].hyperparameters
        places[name] = Place(there, per_epoch * (epochs if chosen is None else _epochs(chosen.n_epochs, sizes)))
    arms = {a: (sizes.prompt + extra.of(a), sizes.answer) for a in study.arms}
    strongest = max((a for a in arms if not is_tuned(a)), key=lambda a: arms[a][0], default=None)
    leanest = min((a for a in arms if is_tuned(a)), key=lambda a: arms[a][0], default=None)
    notes = [
        f"Tokens are counted with the study's own model, on {min(SAMPLE, sizes.n_train):,} examples or fewer; answers are taken to be as long as the gold ones.",
        "Which untuned arm is best is not known yet: the one with the most context is compared.",
    ]
    return sheet(study, places, "estimate", arms, leanest, strongest, fit, notes)


def _epochs(asked: int | Auto, sizes: Sizes) -> int:
    return auto_epochs(sizes.n_train) if asked == "auto" else asked


class _Extra:
    """Tokens that a recipe adds to a bare conversation, by the study's settings."""

    def __init__(self, study: Study, base: Path, renderer: Renderer, sizes: Sizes) -> None:
        text = prompt_text(study, base) or ""
        retrieved = study.retrieval.k * study.retrieval.chunk_words * sizes.per_word if study.retrieval else 0.0
        self._each = {
            "prompt": len(text.split()) * sizes.per_word,
            "few_shot": study.few_shot.k * sizes.tokens,
            "retrieval": retrieved,
        }

    def of(self, recipe: str) -> float:
        return sum(self._each.get(part, 0.0) for part in ingredients(recipe))


def _mean(values: Iterable[float]) -> float:
    collected: Sequence[float] = list(values)
    return sum(collected) / len(collected) if collected else 0.0
