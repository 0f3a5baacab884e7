"""The article's table against what the command line and the service answer: a fixture of its own, row by row, cell by cell."""
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from azure.mgmt.cognitiveservices.models import ModelListResult

from in_process import application

LINES = (Path(__file__).parent / "article_table.md").read_text(encoding="utf-8").splitlines()
KEYS = {
    "id", "version", "family", "kind", "provider", "fine_tune_regions", "max_request_tokens", "example_context_tokens",
    "training_data_until", "lifecycle",
}  # fmt: skip
OF_THE_TABLE = int(datetime(2024, 11, 1, tzinfo=UTC).timestamp())  # when the rows stood as they are written
LOCATIONS = "/subscriptions/s/providers/Microsoft.CognitiveServices/locations/{}/models?api-version=2024-10-01"


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
def printed():
    done = catalog("models", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A service whose clock stands at the table's time."""
    with application(tmp_path_factory.mktemp("service"), clock=lambda: OF_THE_TABLE) as (_, client):
        yield client


@pytest.fixture(scope="module")
def served(client):
    answer = client.get("/v1/catalog/models")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_the_fixture_has_the_whole_table():
    assert len(LINES) == 14
    assert len(ROWS) == 19


OF_ROWS = pytest.mark.parametrize("row", ROWS, ids=[f"{r[1]}-{r[2]}" if r[2] else r[1] for r in ROWS])


@OF_ROWS
@pytest.mark.parametrize("door", ["printed", "served"])
def test_row(row, door, request):
    family, name, version, preview, regions, sizes, until = row
    (found,) = [m for m in request.getfixturevalue(door) if (m["id"], m["version"]) == (name, version)]
    assert found.keys() >= KEYS
    assert found["family"] == family
    assert found["provider"] == "azure"
    assert found["kind"] == _kind(name)
    assert sorted(found["fine_tune_regions"]) == sorted(regions)
    assert found["training_data_until"] == (None if until == "–" else datetime.strptime(f"{until} +0000", "%b %Y %z").strftime("%Y-%m"))
    assert found["lifecycle"]["listed_as"] == ("preview" if preview else "available")
    if door == "served":
        assert found["lifecycle"]["stage"] == found["lifecycle"]["listed_as"]  # as on the day of the table
    assert found["source"]
    most_in, most_out, example = _sizes(name, sizes)
    assert found["max_request_tokens"] == {"input": most_in, "output": most_out}
    assert found["example_context_tokens"] == example


@OF_ROWS
def test_row_in_the_management_planes_form(row, client):
    """It has no words for the family, the longest example and the cut-off of the training data."""
    _, name, version, preview, regions, sizes, _ = row
    most_in, most_out, _ = _sizes(name, sizes)
    for region in ("North Central US", "Sweden Central", "Switzerland West", "East US 2", "West US 3"):
        listed = ModelListResult.deserialize(client.get(LOCATIONS.format(region)).json()).value
        found = [e.model for e in listed if (e.model.name, e.model.version) == (name, version or "1")]
        assert len(found) == (region in regions), region
        for model in found:
            assert model.lifecycle_status == ("Preview" if preview else "GenerallyAvailable")
            able = {"fineTune": "true", "inference": "true", "chatCompletion" if _kind(name) == "chat" else "completion": "true"}
            out = {} if most_out is None else {"maxOutputToken": str(most_out)}
            assert model.capabilities == {**able, "maxContextToken": str(most_in), **out}


def _kind(name):
    return "completion" if re.fullmatch(r"(babbage|davinci)-002|Meta-Llama-2-\d+b", name) else "chat"


def _sizes(name, cell):
    """(longest request, longest answer, longest training example) that the cell tells."""
    sizes, _, example = cell.partition("; training example ")
    if "k" in sizes:  # "128k", or the name says which
        return int(re.search(r"(\d+)k", name if "by name" in sizes else sizes)[1]) * 1024, None, None
    numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", sizes)]
    return numbers[0], numbers[1] if len(numbers) > 1 else None, int(example.replace(",", "")) if example else None


@pytest.mark.parametrize(("region", "spelt"), [("East US 2", "eastus2"), ("Switzerland West", "switzerland west"), ("West US 3", "West US 3")])
def test_a_regions_rows_are_those_the_table_has_there(region, spelt, client):
    listed = json.loads(catalog("models", "--region", spelt, "--task", "fine-tune", "--json").stdout)
    assert {(m["id"], m["version"]) for m in listed} == {(r[1], r[2]) for r in ROWS if region in r[4]}
    there = client.get("/v1/catalog/models", params={"region": spelt, "task": "fine-tune"}).json()["data"]
    assert [m["id"] for m in there] == [m["id"] for m in listed]


def test_a_familys_rows_in_a_table_for_people():
    done = catalog("models", "--family", "phi-3")
    assert done.returncode == 0
    names = [r[1] for r in ROWS if r[0] == "Phi-3"]
    assert all(name in done.stdout for name in names)
    assert f"{len(names)} models" in done.stdout


def test_what_came_later_is_there_too(printed):
    ids = {m["id"] for m in printed}
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
