"""`feinschliff catalog` and `feinschliff cost` as commands: what they print and how they end."""
import json
import sys
from types import SimpleNamespace

import pytest

from feinschliff.cli.main import main
from remote_settings import hosted_model, price, resource

REGIONS = """
[regions.north]
kind = "azure"
location = "North Central US"
endpoint = "https://r.openai.azure.com"
api_version = "2024-10-21"
key_env = "NORTH_KEY"
quota = { money_per_month = 50.0 }

[regions.cluster]
kind = "ray"
address = "ray://head:10001"
memory_gb = 80
teraflops = 300
"""
STUDY = """
name = "towns"
task = "t"
why = "w"
arms = ["base", "prompt", "few_shot", "tuned"]
data = { files = ["rows.jsonl"] }
split = { test = 0.25, validation = 0.0 }
prompt = { system = "Answer with one word, in capital letters, and nothing else whatsoever." }
few_shot = { k = 2 }
training = { hyperparameters = { n_epochs = 2 } }
graders = [{ name = "exact", type = "exact" }]
goal = { grader = "exact", at_least = 0.5 }
traffic = { requests_per_month = 100_000 }
model = { base = MODEL }
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    (folder / "regions.toml").write_text(REGIONS, encoding="utf-8")
    return folder


@pytest.fixture
def run(settings, monkeypatch, capfd):
    """The command line in this process, from its arguments to its exit code; test_article_table.py starts real ones."""

    def started(*arguments, **environment):
        code = 0
        with monkeypatch.context() as during:
            for name, value in {"FEINSCHLIFF_CONFIG": str(settings), "NO_COLOR": "1", "COLUMNS": "160", **environment}.items():
                during.setenv(name, value)
            during.setattr(sys, "argv", ["feinschliff", *map(str, arguments)])
            try:
                main()
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else 1
        said = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return started


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("study")
    rows = [
        {"messages": [{"role": "user", "content": f"Which town is number {i}?"}, {"role": "assistant", "content": f"TOWN {i}"}]} for i in range(40)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    (folder / "study.toml").write_text(STUDY.replace("MODEL", json.dumps(str(tiny_model))), encoding="utf-8")
    return folder / "study.toml"


def test_regions_are_listed_and_secrets_are_not(run):
    listed = {r["name"]: r for r in json.loads(run("catalog", "regions", "--json", NORTH_KEY="hush").stdout)}
    assert set(listed) == {"local", "north", "cluster"}
    assert "gpt-4.1-2025-04-14" in listed["north"]["models"]
    assert listed["north"]["credential_missing"] is None
    assert "hush" not in json.dumps(listed)
    shown = run("catalog", "regions").stdout
    assert "NORTH_KEY is not set" in shown
    assert "50.00 money a month" in shown


def test_models_of_a_configured_region(run):
    listed = {m["id"] for m in json.loads(run("catalog", "models", "--region", "north", "--json").stdout)}
    assert "gpt-4.1" in listed
    assert listed.isdisjoint({"smollm2-135m-instruct", "Phi-3-mini-4k-instruct"})


def test_a_place_that_no_model_knows_is_an_error(run):
    done = run("catalog", "models", "--region", "Sweden Centrall")
    assert done.returncode == 2
    assert "Did you mean 'Sweden Central'?" in done.stderr


def test_models_that_fit_this_machine(run):
    listed = json.loads(run("catalog", "models", "--fits-this-machine", "--json").stdout)
    everything = json.loads(run("catalog", "models", "--region", "local", "--json").stdout)
    assert {m["id"] for m in listed} < {m["id"] for m in everything}
    assert "Meta-Llama-3.1-70b-Instruct" not in {m["id"] for m in listed}  # 282 GB to read it
    assert all(m["memory"]["lora"] <= m["memory"]["full"] for m in listed)


def test_fit_says_yes_or_refuses_with_the_nearest_thing(run):
    done = run("catalog", "fit", "Meta-Llama-3.1-8b-Instruct", "--region", "cluster", "--examples", "1000")
    assert done.returncode == 0, done.stderr
    assert "Time: about" in done.stdout
    done = run("catalog", "fit", "Meta-Llama-3.1-70b-Instruct", "--region", "cluster", "--method", "full")
    assert done.returncode == 2
    assert "does not fit into cluster" in done.stderr
    assert "What fits: the model" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gpt-4.1", "--region", "cluster"), "is not tuned in cluster"),
        (("gpt-4.1", "--region", "Sweden Central"), "The region Sweden Central is not configured here"),
        (("gpt-4.1", "--region", "north"), "its provider's concern"),
        (("gpt-9", "--region", "local"), "There is no model 'gpt-9'"),
    ],
)
def test_fit_refuses_what_is_not_offered(run, arguments, said):
    done = run("catalog", "fit", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_retirements_of_nothing(run, tmp_path):
    done = run("catalog", "retirements", tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 tuned models; none ends with its base.\n")


def test_cost_before_a_study_is_run(run, study):
    done = run("cost", study, "--json")
    assert done.returncode == 0, done.stderr
    sheet = json.loads(done.stdout)
    arms = {a["name"]: a for a in sheet["arms"]}
    assert sheet["basis"] == "estimate"
    assert (sheet["tuned"], sheet["untuned"]) == ("tuned", "few_shot")
    assert arms["base"]["input_tokens"] == arms["tuned"]["input_tokens"] < arms["prompt"]["input_tokens"]
    one = arms["base"]["input_tokens"] + arms["base"]["output_tokens"]
    assert arms["few_shot"]["input_tokens"] == pytest.approx(arms["base"]["input_tokens"] + 2 * one)
    assert sheet["training_tokens"] == pytest.approx(2 * 30 * one, rel=0.01)  # two epochs of three quarters of 40 examples
    assert sheet["training"] == 0  # nobody has said what this machine costs
    assert sheet["break_even_requests"] is None


def test_cost_at_a_providers_prices(run, study):
    sheet = json.loads(run("cost", study, "--model", "gpt-4.1-mini-2025-04-14", "--provider", "openai", "--json").stdout)
    assert sheet["training"] == pytest.approx(sheet["training_tokens"] * 5 / 1e6)
    arms = {a["name"]: a for a in sheet["arms"]}
    tuned = arms["tuned"]
    assert tuned["per_request"] == pytest.approx((tuned["input_tokens"] * 0.8 + tuned["output_tokens"] * 3.2) / 1e6)
    assert arms["base"]["per_request"] == pytest.approx(tuned["per_request"] / 2)
    done = run("cost", study, "--model", "gpt-4.1-mini-2025-04-14", "--provider", "openai")
    assert "training:" in done.stdout
    assert "requests at 100,000 requests a month" in done.stdout
    assert "towns on gpt-4.1-mini-2025-04-14, estimate, in USD" in done.stdout


def test_cost_of_arms_that_a_provider_answers_and_tunes(run, study, tmp_path):
    texts = {"regions": resource("http://127.0.0.1:9"), "models": hosted_model("far"), "prices": price("far")}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    both = study.read_text(encoding="utf-8").replace('"tuned"]', '"tuned", "azure+prompt", "azure+tuned"]')
    hosted = '\n[hosted.azure]\nregion = "resource"\nmodel = "far"\nhyperparameters = { n_epochs = 3 }\n'
    file = study.with_name("both.toml")
    file.write_text(both + hosted, encoding="utf-8")
    done = run("cost", file, "--json", FEINSCHLIFF_CONFIG=str(tmp_path))
    assert done.returncode == 0, done.stderr
    sheet = json.loads(done.stdout)
    here, there = sheet["trainings"]
    assert (here["place"], there["place"], there["model"]) == ("", "azure", "far")
    assert there["tokens"] == pytest.approx(here["tokens"] * 3 / 2)  # epochs
    assert there["training"] == pytest.approx(there["tokens"] * 20 / 1e6)
    assert there["hosting_month"] == pytest.approx(1.5 * 730)
    arms = {a["name"]: a for a in sheet["arms"]}
    assert arms["azure+prompt"]["per_request"] == pytest.approx((arms["prompt"]["input_tokens"] * 2 + arms["prompt"]["output_tokens"] * 8) / 1e6)
    shown = run("cost", file, FEINSCHLIFF_CONFIG=str(tmp_path)).stdout
    assert "training in azure: " in shown
    assert "hosting in azure: 1,095.00 USD a month" in shown


def test_cost_without_a_known_price_says_where_to_write_it(run, study):
    done = run("cost", study, "--model", "gpt-4.1", "--provider", "azure")
    assert done.returncode == 2
    assert "The price of gpt-4.1 for training is not known" in done.stderr
    assert "prices.toml" in done.stderr
