"""Whatever is put in: one message that says what is wrong and what to do, the right exit code, and a way on."""
import fcntl
import io
import json
import re
import resource
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_study import command, environment, make_study, rows, write_rows

from feinschliff.cli.main import main

SHARED = Path(__file__).parents[3] / "shared"
BASE_ONLY = ('arms = ["base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval"]', 'arms = ["base"]')
TUNED_ONLY = (BASE_ONLY[0], 'arms = ["tuned"]')
PLAIN = ('contexts = ["plain", "prompt+retrieval"]', 'contexts = ["plain"]')
ROW = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
GOOD = "".join(ROW.replace('"a"', f'"question {i}"') for i in range(10))


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch, capfd, tmp_path):
    """The command line, in this process: everything from the arguments to the exit code, but for the interpreter's start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["feinschliff", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        said = capfd.readouterr()
        assert "Traceback" not in said.out + said.err
        return Ended(code, said.out, said.err)

    return run


def refused(ended: Ended, *words: str, code: int = 2) -> None:
    assert ended.code == code, ended.err
    assert ended.err.count("error: ") == 1
    flat = " ".join(ended.err.split())
    assert all(word in flat for word in words), ended.err


# ── data files ────────────────────────────────────────────────────────────────────────────────────────────────────────

UNREADABLE = {
    "missing": (None, ("There is no file",)),
    "folder": ("folder", ("is a folder",)),
    "utf-16": (GOOD.encode("utf-16"), ("UTF-8",)),
    "latin-1": (GOOD.replace("question", "qüestion").encode("latin-1"), ("UTF-8",)),
    "empty": (b"", ("is empty",)),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_data_is_said_so(cli, tmp_path, name):
    content, words = UNREADABLE[name]
    path = tmp_path / "data.jsonl"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    ended = cli("data", "check", path)
    assert ended.code in (1, 2)
    assert all(word in ended.out + ended.err for word in words)
    assert "data.jsonl" in ended.out + ended.err


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode()], ids=["bom", "crlf"])
def test_harmless_oddities_are_read(cli, tmp_path, content):
    (tmp_path / "data.jsonl").write_bytes(content)
    ended = cli("data", "check", "data.jsonl", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["n_examples"] == 10


ROWS = {
    "two users in a row": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}],
    "no assistant": [{"role": "user", "content": "a"}],
    "unknown role": [{"role": "human", "content": "a"}, {"role": "assistant", "content": "c"}],
    "empty answer": [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}],
}


@pytest.mark.parametrize("name", ROWS)
def test_bad_rows_are_found_with_their_line(cli, tmp_path, name):
    (tmp_path / "data.jsonl").write_text(GOOD + json.dumps({"messages": ROWS[name]}) + "\n", encoding="utf-8")
    ended = cli("data", "check", "data.jsonl", "--json")
    report = json.loads(ended.out)
    assert ended.code == (1 if report["n_errors"] else 0)
    assert set(report) == {"n_examples", "n_errors", "n_warnings", "findings"}
    assert report["n_errors"] + report["n_warnings"] >= 1
    found = [f for f in report["findings"] if f["line"] == 11]
    assert found
    assert set(found[0]) == {"line", "level", "code", "message", "hint"}
    assert ended.err == ""


def test_good_data_ends_with_0(cli, tmp_path):
    (tmp_path / "data.jsonl").write_text(GOOD, encoding="utf-8")
    ended = cli("data", "check", "data.jsonl", "--json")
    assert ended.code == 0
    assert json.loads(ended.out) == {"n_examples": 10, "n_errors": 0, "n_warnings": 0, "findings": []}


def test_broken_lines_of_a_public_file_do_not_hide_the_others(cli):
    files = sorted(SHARED.glob("data/**/nl2gql*.json*"))
    if not files:
        pytest.skip("the shared nl2gql file is not there")
    ended = cli("data", "check", files[0], "--json")
    report = json.loads(ended.out)
    assert ended.code == (1 if report["n_errors"] else 0)
    assert report["findings"] or report["n_examples"]


def test_missing_field_names_the_nearest(cli, tmp_path):
    write_rows(tmp_path / "rows.jsonl", rows(0, 3))
    ended = cli("data", "check", "rows.jsonl", "--input", "nl", "--output", "qeury")
    assert ended.code in (1, 2)
    assert "'query'" in ended.out + ended.err or "`query`" in ended.out + ended.err


# ── study files ───────────────────────────────────────────────────────────────────────────────────────────────────────

STUDY_FILES = {
    "typo in a key": ("labelled_by", "labeled_by", ("[data] labeled_by", "did you mean `labelled_by`")),
    "wrong type": ("k = 2", 'k = "two"', ("[few_shot] k", "a whole number")),
    "not TOML": ('name = "small"', "name = small", ("is not valid TOML", "line 1")),
    "unknown arm": ('"few_shot", ', '"fewshot", ', ("'fewshot'", "few_shot")),
    "missing prompt": ('file = "prompt.md"', 'file = "promt.md"', ("[prompt] file", "promt.md")),
    "no document": ('documents = ["schema/*.md"]', 'documents = ["schemas/*.md"]', ("[retrieval] documents", "schemas/*.md")),
    "missing data": ('files = ["rows.jsonl"]', 'files = ["rows.json"]', ("[data] files", "did you mean 'rows.jsonl'")),
    "unknown grader": ('type = "chrf"', 'type = "chrff"', ("there is no type 'chrff'", "Did you mean 'chrf'")),
    "unknown option": ('type = "chrf"', 'type = "chrf"\noptions = { words = 2 }', ("there is no option 'words'",)),
    "goal without grader": ('grader = "chrf"', 'grader = "bleu"', ("'bleu'", "same, chrf")),
}


@pytest.mark.parametrize("name", STUDY_FILES)
def test_bad_study_file(cli, tmp_path, tiny_model, tiny_encoder, name):
    before, after, words = STUDY_FILES[name]
    file = make_study(tmp_path, tiny_model, tiny_encoder, (before, after))
    refused(cli("study", "run", file, "--out", "out", "--yes"), *words)
    assert not (tmp_path / "out").exists()


def test_data_that_must_stay_elsewhere_is_not_used_here(cli, tmp_path, tiny_model, tiny_encoder):
    stays = ('labelled_by = "a rule"', 'labelled_by = "a rule"\nstays_in = ["Sweden Central"]')
    make_study(tmp_path, tiny_model, tiny_encoder, stays)
    refused(cli("study", "run", "study.toml", "--yes"), "must stay in Sweden Central; local is elsewhere")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("smolm2-135m-instruct", ("There is no model 'smolm2-135m-instruct'", "Did you mean 'smollm2-135m-instruct'")),
        ("./nowhere", ("There is no model './nowhere'", "name a model folder")),
    ],
)
def test_unknown_model(cli, tmp_path, tiny_encoder, model, words):
    file = make_study(tmp_path, model, tiny_encoder)
    refused(cli("study", "run", file, "--out", "out", "--yes"), *words)


def test_known_model_that_no_source_has(cli, tmp_path, tiny_encoder, monkeypatch):
    from feinschliff.catalog import models

    hub_only = models.Hub(kind="hub", repository="nobody/nothing")
    package = models.FolderPackage(kind="folder_package", package="no-such-weights", version="1", module="no_such_weights", folder="m")
    known = models.load_catalog().models[0].model_copy(update={"id": "far-away", "sources": (package, hub_only)})
    monkeypatch.setattr("feinschliff.compose.own_catalog", lambda: models.Catalog(models=(known,)))
    monkeypatch.setenv("FEINSCHLIFF_CACHE", str(tmp_path / "cache"))
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    file = make_study(tmp_path, "far-away", tiny_encoder)
    refused(
        cli("study", "run", file, "--out", "out", "--yes"),
        "'far-away' could not be had", "package no-such-weights 1", "hub repository nobody/nothing", "Install its package",
    )  # fmt: skip


def test_bad_data_is_mended_and_the_same_command_goes_on(cli, tmp_path, tiny_model, tiny_encoder):
    file = make_study(tmp_path, tiny_model, tiny_encoder, BASE_ONLY, ('part = "part"', 'part = "prat"'))
    good = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(good + '{"nl": "cut off', encoding="utf-8")
    run = ("study", "run", file, "--out", "out", "--yes")
    refused(cli(*run), "rows.jsonl, line 49", "feinschliff data check")
    (tmp_path / "rows.jsonl").write_text(good, encoding="utf-8")
    refused(cli(*run), "[split] part = 'prat'", "Its fields: nl, query, part")
    file.write_text(file.read_text(encoding="utf-8").replace("prat", "part"), encoding="utf-8")
    ended = cli(*run)
    assert ended.code == 0, ended.err
    (tmp_path / "out" / "data" / "test.jsonl").write_text(GOOD, encoding="utf-8")
    refused(cli(*run), "test.jsonl is not the held-out set that was frozen")


# ── folders, terminals, disks ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small(tmp_path, tiny_model, tiny_encoder):
    return make_study(tmp_path, tiny_model, tiny_encoder, BASE_ONLY)


def test_nobody_to_confirm(cli, small):
    refused(cli("study", "run", small, "--out", "out"), "Nobody is there to confirm", "--yes")


def test_out_is_a_file(cli, small, tmp_path):
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    refused(cli("study", "run", small, "--out", "out", "--yes"), "is a file, not a folder")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


def test_out_is_something_else(cli, small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine", encoding="utf-8")
    refused(cli("study", "run", small, "--out", "out", "--yes"), "is not the folder of a study")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_second_process_in_the_folder(cli, small, tmp_path):
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(cli("study", "run", small, "--out", "out", "--yes"), "Another process is running the study")


def test_arms_and_test_options(cli, small):
    refused(cli("study", "run", small, "--arms", "base,tunned", "--yes"), "'tunned'")
    refused(cli("study", "run", small, "--arms", " , ", "--yes"), "There is no arm to measure")
    refused(cli("study", "run", small, "--test", "nowhere.jsonl", "--yes"), "nowhere.jsonl")


def limited(run: tuple[str | Path, ...], cwd: Path, largest_file: int | None) -> "subprocess.CompletedProcess[str]":
    """The real command where no file may grow beyond a size: as a full disk, but for this process and its children only."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        command(*run), cwd=cwd, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        encoding="utf-8", preexec_fn=limit, check=False,
    )  # fmt: skip


def test_full_disk_and_then_space_again(tmp_path, tiny_model, tiny_encoder):
    file = make_study(tmp_path, tiny_model, tiny_encoder, TUNED_ONLY, PLAIN, ("rank = 2", "rank = 64"))
    run = ("study", "run", file, "--out", "out", "--yes")
    for largest_file, place in ((1_000, r"cannot be written: File too large"), (60_000, r"Training failed|Training ended")):
        done = limited(run, tmp_path, largest_file)
        assert done.returncode in (1, 2)
        assert re.search(place, done.stderr), done.stderr
        assert done.stderr.startswith("error: ")
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
    done = limited(run, tmp_path, None)
    assert done.returncode == 0, done.stderr


def test_diverging_training_ends_with_an_answer(cli, tmp_path, tiny_model, tiny_encoder):
    file = make_study(tmp_path, tiny_model, tiny_encoder, TUNED_ONLY, PLAIN, ("learning_rate = 0.01", "learning_rate = 1e30"))
    ended = cli("study", "run", file, "--out", "out", "--yes")
    if ended.code != 0:
        refused(ended, "not finite", "learning_rate", code=1)
