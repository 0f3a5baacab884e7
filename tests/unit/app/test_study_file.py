from pathlib import Path

import pytest

from feinschliff.app.study_file import load_study, prompt_text
from feinschliff.core.errors import BadStudy
from feinschliff.core.jobs import Full

MINIMAL = """
name = "atlas"
task = "questions to queries"
why = "the base model cannot write GQL"
arms = ["base", "prompt", "tuned"]
[data]
files = ["train.jsonl"]
[prompt]
file = "prompt.txt"
[[graders]]
name = "exact"
type = "exact"
options = { ignore_case = true }
[goal]
grader = "exact"
at_least = 0.8
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.jsonl").write_text("{}\n", encoding="utf-8")
    (tmp_path / "prompt.txt").write_text("Write GQL.\n", encoding="utf-8")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "STUDY.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadStudy) as caught:
        load_study(written(folder, text))
    assert caught.value.hint
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_a_study_is_read_with_its_defaults(folder: Path) -> None:
    study = load_study(written(folder, "\ufeff" + MINIMAL + '[training.method]\nkind = "full"\n'))
    assert (study.name, study.goal.at_least, study.training.method) == ("atlas", 0.8, Full())
    assert study.graders[0].options == {"ignore_case": True}
    assert prompt_text(study, folder) == "Write GQL."


@pytest.mark.parametrize(
    ("replaced", "by", "problem"),
    [
        ("why =", "wy =", "wy: unknown key; did you mean `why`?"),
        ("[goal]", "[goal]\nat_lest = 1", "[goal] at_lest: unknown key; did you mean `at_least`?"),
        ("files =", "k = 3\nfiles =", "[data] k: unknown key; there is one in [few_shot]; here stand files,"),
        ("options = { ignore_case = true }", "ignore_case = true", "[[graders]] no. 1, ignore_case: unknown key; a grader's own"),
        ('at_least = 0.8', 'at_least = "high"', "[goal] at_least: takes a number, not 'high'"),
        ('files = ["train.jsonl"]', "files = []", "[data] files: needs at least 1 entry, not an empty list"),
        ('"atlas"', '"a/b"', "name: takes letters, digits, dots, dashes and underscores"),
        ('arms = ["base", "prompt", "tuned"]', "arms = []", "arms: a study compares arms; name some, or leave the line out for base, prompt,"),
        ('"tuned"]', '"tund"]', "arms: arm 'tund': 'tund' is not one of base, prompt,"),
        ('grader = "exact"', 'grader = "exakt"', "goal: no grader is called 'exakt'; there are exact"),
        ("train.jsonl", "train.json", "[data] files: there is no file 'train.json' in "),
        ("prompt.txt", "PROMPT.txt", "did you mean 'prompt.txt'?"),
        ("[prompt]", "[split]\ntest = 2\n[prompt]", "[split] test: must be less than 1.0, not 2"),
        ("[prompt]", "[training.hyperparameters]\nn_epochs = 1.5\n[prompt]", "[training.hyperparameters] n_epochs: takes a whole number or 'auto', not 1.5"),
        ("[prompt]", "[training.hyperparameters]\nn_epochs = 0\n[prompt]", "[training.hyperparameters] n_epochs: must be at least 1 or 'auto', not 0"),
        ("[prompt]", "[split]\nvalidation = 0\n[training]\nkeep_best = true\n[prompt]", "keep_best: goes by the validation loss, but split.validation is 0"),
        ("[prompt]", '[training.method]\nkind = "ia3"\n[prompt]', "[training] method: takes a kind of 'lora', 'qlora', 'full'"),
        ("[prompt]", '[training.method]\nkind = "lora"\nrnk = 4\n[prompt]', "[training.method] rnk: unknown key; did you mean `rank`?"),
        ("[prompt]", '[training.method]\nkind = "lora"\ntargets = 4\n[prompt]', "(['…']) or 'all-linear', not 4"),
        ("[prompt]", '[training]\ncontexts = ["prompt+retrievl"]\n[prompt]', "[training] contexts: 'retrievl' in 'prompt+retrievl' is not one of plain,"),
        ("[prompt]", '[retrieval]\ndocuments = ["docs/*.md"]\n[prompt]', "[retrieval] documents: no file matches 'docs/*.md' in "),
        ("[prompt]", "model = 3\n[prompt]", "[data] model: unknown key"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place_and_remedy(folder: Path, replaced: str, by: str, problem: str) -> None:
    found = problems(folder, MINIMAL.replace(replaced, by, 1))
    assert any(problem in line.replace('(["…"])', "(['…'])") for line in found), found


def test_a_table_given_as_a_value(folder: Path) -> None:
    assert problems(folder, "model = 3\n" + MINIMAL) == ["[model]: is a table, not a single value, not 3"]


def test_all_problems_are_told_at_once(folder: Path) -> None:
    text = MINIMAL.replace("why =", "wy =").replace("train.jsonl", "gone.jsonl").replace("0.8", '"x"')
    assert [line.split(":")[0] for line in problems(folder, text)] == [
        "why",
        "[goal] at_least",
        "wy",
        "[data] files",
    ]


def test_broken_toml_is_named_with_its_line(folder: Path) -> None:
    with pytest.raises(BadStudy, match=r"not valid TOML: .*line 3"):
        load_study(written(folder, 'name = "a"\ntask = "b"\nwhy = because\n'))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "there is no such file"),
        (lambda p: p.mkdir(), "is a folder"),
        (lambda p: p.write_bytes(b'name = "\xff"'), "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, make, says: str) -> None:
    make(tmp_path / "STUDY.toml")
    with pytest.raises(BadStudy, match=says):
        load_study(tmp_path / "STUDY.toml")
