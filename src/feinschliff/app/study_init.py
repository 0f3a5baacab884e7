"""Writes a commented STUDY.toml from a data file: what can be seen is filled in, what only the team knows is asked."""
import json
import os
import re
from pathlib import Path

from feinschliff.app.study_guess import Guess, Proposal, guess
from feinschliff.core.errors import BadStudy
from feinschliff.core.study import Study
from feinschliff.data.files import write_atomically

TEMPLATE = """\
# A study: one task, one frozen held-out set, several arms, one verdict. Every key: docs/study-file.md
# Lines marked "?" are questions to you; the rest was guessed from {data_name} ({n_examples} examples).
#   feinschliff study run {out_name}

name = {name}

# ? What goes in, and what shall come out? One sentence; it heads the report.
task = "TODO: questions of … in, … out"

# ? Why consider fine-tuning? What goes wrong today, and what does it cost?
why = "TODO: the base model … even though …"

# ? What has been tried so far, with what result? It goes into the decision record.
tried = [
  # "prompt with 5 examples, GPT-4o: 0.61 on 100 questions (March)",
]

# What is compared. Ingredients: base, prompt, few_shot, retrieval, tuned, joined by "+" in any combination.
arms = ["base", "prompt", "few_shot", "prompt+few_shot", "tuned", "tuned+prompt"]

[data]
files = [{data_file}]
format = {format}
# ? Who or what wrote the answers, and what was done to check them?
labelled_by = ""
curated = ""
{errors}{mapping}
[split]
test = 0.15        # held out for the verdict; never trained on
validation = 0.05  # watched while training
# ? Rows that belong together (one customer, one template) must not be parted: name the field that tells.
# group = "…"
# ? A field whose values are worth a number of their own (kind of question, language).
# part = "…"
# Fields of this file: {fields}
# test_files = ["held_out.jsonl"]  # a held-out set of your own takes the place of `test`

[prompt]
# ? The best prompt you have; fine-tuning is measured against it, so give it your best.
system = "TODO: You … Answer with … only."
# file = "prompt.md"  # or keep it in a file

[few_shot]
k = 4  # the training examples most like the question are shown before it

# ? Documents that would help a person to answer (schema, handbook). Then add "retrieval" to arms.
# [retrieval]
# documents = ["docs/**/*.md"]
# k = 3

[model]
base = {base}
max_output_tokens = {max_output_tokens}  # the longest answer you expect

[training]
contexts = ["plain", "prompt"]  # trained bare and with the prompt, so that one adapter serves both arms
# seeds = 3                     # is the gain more than one training's luck? (docs/uncertainty.md)
# learning_curve = [0.25, 0.5]  # would more data help?

[training.method]
kind = "lora"
rank = 16

[training.hyperparameters]
n_epochs = 3
batch_size = 16
learning_rate = 1e-3

# How an answer is scored. The first one below decides about the goal.
{graders}
[goal]
# ? What would be good enough to use? Decide before you train.
grader = {goal}
at_least = 0.80
not_worse = []  # graders on which the tuned model may not fall behind

[traffic]
# ? How many requests a month?
requests_per_month = 10000

[prices]
# ? What do your machines and tokens cost? With zeros the report shows no return.
currency = "USD"
machine_hour = 0.0          # the machine that trains
hosting_hour = 0.0          # extra cost of keeping the tuned model up
input_million_tokens = 0.0
output_million_tokens = 0.0
"""


def study_init(data_file: Path, out: Path, *, overwrite: bool = False) -> Guess:
    """Writes the study file `out` for `data_file`, and tells what was guessed.

    Raises BadStudy where `out` exists, BadData where the data file cannot be read.
    """
    if out.is_dir():
        out = out / "STUDY.toml"
    if out.exists() and not overwrite:
        raise BadStudy(f"{out} exists already", hint="Name another file with --out, or remove it first.")
    guessed = guess(data_file)
    write_atomically(out, render_study(guessed, data_file, out).encode())
    return guessed


def render_study(guessed: Guess, data_file: Path, out: Path) -> str:
    """The text of the study file; paths in it are relative to `out`'s folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data_file.stem).strip("-._") or "study"
    return TEMPLATE.format(
        data_name=_one_line(data_file.name),
        n_examples=f"{guessed.n_examples:,}",
        out_name=_one_line(out.name),
        name=_toml(name),
        data_file=_toml(Path(os.path.relpath(data_file.resolve(), out.resolve().parent)).as_posix()),
        format=_toml(guessed.format),
        errors=_errors(guessed),
        mapping=_mapping(guessed),
        fields=_one_line(", ".join(guessed.fields) or "none beside question and answer"),
        base=_toml(Study.model_fields["model"].get_default().base),
        max_output_tokens=Study.model_fields["model"].get_default().max_output_tokens,
        graders="\n".join(_grader(proposal) for proposal in guessed.graders),
        goal=_toml(next(p.type for p in guessed.graders if not p.off)),
    )


def _errors(guessed: Guess) -> str:
    if not guessed.n_errors:
        return ""
    return f"# {guessed.n_errors} problems in this file must be mended first: feinschliff data check\n"


def _mapping(guessed: Guess) -> str:
    if guessed.mapping is None:
        return ""
    return (
        "\n[data.mapping]\n"
        "# ? Is this the question, and this the answer? For more than one field use a Jinja2 template:\n"
        '# input_template = "{{ question }} (on {{ date }})"\n'
        f"input = {_toml(guessed.mapping.input or '')}\n"
        f"output = {_toml(guessed.mapping.output or '')}\n"
        '# system = "…"  # the same system message for every row\n'
    )


def _grader(proposal: Proposal) -> str:
    lines = [f"[[graders]]  # {proposal.reason}", f"name = {_toml(proposal.type)}", f"type = {_toml(proposal.type)}"]
    if proposal.options:
        lines.append(f"options = {proposal.options}")
    return "\n".join(f"# {line}" if proposal.off else line for line in lines) + "\n"


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of TOML's, but for DEL, which JSON leaves bare."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _one_line(text: str) -> str:
    """Safe inside a comment."""
    return "".join(c if c.isprintable() else "�" for c in text)
