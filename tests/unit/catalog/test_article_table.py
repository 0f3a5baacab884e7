"""The article's table against what the command line answers: a fixture of its own, row by row."""
import json
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

LINES = (Path(__file__).parent / "article_table.md").read_text(encoding="utf-8").splitlines()
KEYS = {
    "id", "version", "family", "kind", "provider", "fine_tune_regions", "max_request_tokens", "example_context_tokens",
    "training_data_until", "lifecycle",
}  # fmt: skip


def _rows():
    """(family, id, version, preview, regions, request, cut-off) for each model of the table."""
    family = ""
    for line in LINES[4:]:
        cells = [c.strip() for c in line.strip("|").split("|")]
        family = cells[0] or family
        named = cells[1].removesuffix(", preview")
        for model in named.split(", "):
            name, _, version = model.rstrip(")").partition(" (")
            yield family, name, version or None, named != cells[1], cells[2].split(", "), cells[3], cells[4]


ROWS = list(_rows())


def catalog(*options, **environment):
    command = [sys.executable, "-m", "feinschliff.cli.main", "catalog", *options]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, **environment)


@pytest.fixture(scope="module")
def answered():
    done = catalog("models", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_fixture_has_the_whole_table():
    assert len(LINES) == 14
    assert len(ROWS) == 19


@pytest.mark.parametrize("row", ROWS, ids=[f"{r[1]}-{r[2]}" if r[2] else r[1] for r in ROWS])
def test_row(answered, row):
    family, name, version, preview, regions, request, until = row
    (found,) = [m for m in answered if (m["id"], m["version"]) == (name, version)]
    assert found.keys() >= KEYS
    assert found["family"] == family
    assert found["provider"] == "azure"
    assert found["kind"] == ("completion" if re.fullmatch(r"(babbage|davinci)-002|Meta-Llama-2-\d+b", name) else "chat")
    assert sorted(found["fine_tune_regions"]) == sorted(regions)
    assert found["training_data_until"] == (None if until == "–" else datetime.strptime(f"{until} +0000", "%b %Y %z").strftime("%Y-%m"))
    assert found["lifecycle"]["listed_as"] == ("preview" if preview else "available")
    assert found["source"]
    _check_sizes(found, name, request)


def _check_sizes(found, name, request):
    sizes, _, example = request.partition("; training example ")
    assert found["example_context_tokens"] == (int(example.replace(",", "")) if example else None)
    if "k" in sizes:  # "128k", or the name says which
        thousands = int(re.search(r"(\d+)k", name if "by name" in sizes else sizes)[1])
        assert found["max_request_tokens"] == {"input": thousands * 1024, "output": None}
    else:
        numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", sizes)]
        assert found["max_request_tokens"] == {"input": numbers[0], "output": numbers[1] if len(numbers) > 1 else None}


@pytest.mark.parametrize(("region", "spelt"), [("East US 2", "eastus2"), ("Switzerland West", "switzerland west"), ("West US 3", "West US 3")])
def test_a_regions_rows_are_those_the_table_has_there(region, spelt):
    listed = {(m["id"], m["version"]) for m in json.loads(catalog("models", "--region", spelt, "--task", "fine-tune", "--json").stdout)}
    assert listed == {(r[1], r[2]) for r in ROWS if region in r[4]}


def test_a_familys_rows_in_a_table_for_people():
    done = catalog("models", "--family", "phi-3")
    assert done.returncode == 0
    names = [r[1] for r in ROWS if r[0] == "Phi-3"]
    assert all(name in done.stdout for name in names)
    assert f"{len(names)} models" in done.stdout


def test_what_came_later_is_there_too(answered):
    ids = {m["id"] for m in answered}
    assert ids >= {
        "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o4-mini", "gpt-oss-20b", "Ministral-3B", "Llama-3.3-70B-Instruct",
        "Qwen-32B", "smollm2-135m-instruct", "gemma-3-270m-it",
    }  # fmt: skip


def test_own_models_are_in_the_list_and_a_broken_file_is_named(tmp_path):
    own = tmp_path / "models.toml"
    own.write_text('[[models]]\nid = "mine"\nkind = "chat"\nlicence = "MIT"\nabout = "a"\nsource = "me"\n', encoding="utf-8")
    env = os.environ | {"FEINSCHLIFF_CONFIG": str(tmp_path)}
    assert "mine" in {m["id"] for m in json.loads(catalog("models", "--json", env=env).stdout)}
    own.write_text("[[models]]\nid = 3", encoding="utf-8")
    done = catalog("models", env=env)
    assert done.returncode == 2
    assert str(own) in done.stderr
    assert "Traceback" not in done.stderr
