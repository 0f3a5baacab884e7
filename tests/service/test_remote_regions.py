"""`feinschliff jobs` on this side, `feinschliff serve` in another process as the OpenAI account and the Azure resource."""
import re
import sys

import pytest
from running import ADMIN_KEY
from test_files import training_lines

from feinschliff.cli.main import main
from remote_settings import account, hosted_model, resource

UNDATED = """
[regions.undated]
kind = "azure"
location = "Sweden Central"
endpoint = "{url}"
api_version = "v1"
key_env = "FAR_KEY"
training = "global"
quota = {{ jobs_per_month = 0 }}
"""
SHORT = ("--epochs", "2", "--batch", "4", "--seed", "7", "--yes")


@pytest.fixture(scope="module")
def settings(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    regions = account(server.url) + resource(server.url) + UNDATED.format(url=server.url)
    (folder / "regions.toml").write_text(regions, encoding="utf-8")
    models = hosted_model("tiny") + hosted_model("tiny", "openai", version="2")
    (folder / "models.toml").write_text(models, encoding="utf-8")
    (folder / "train.jsonl").write_bytes(training_lines(12))
    return folder


@pytest.fixture
def jobs(settings, monkeypatch, capfd):
    def run(*arguments, **environment):
        code = 0
        with monkeypatch.context() as during:
            given = {"FEINSCHLIFF_CONFIG": settings, "FEINSCHLIFF_STATE": settings / "state", "FAR_KEY": ADMIN_KEY, "COLUMNS": "160", **environment}
            for name, value in given.items():
                during.setenv(name, str(value))
            during.setattr(sys, "argv", ["feinschliff", "jobs", *map(str, arguments)])
            try:
                main()
            except SystemExit as stop:
                code = stop.code or 0
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run


def done(outcome):
    code, out, err = outcome
    assert code == 0, err
    return out


def test_a_job_in_an_openai_account_from_the_command_line(jobs, settings, client):
    out = done(jobs("run", settings / "train.jsonl", "--region", "account", "--model", "tiny", "--suffix", "far", *SHORT))
    assert re.search(r"tiny in account: at least [\d,]+ tokens over all epochs, price not known", out)
    assert re.search(r"train.jsonl: ([\d,]+) of \1 bytes", out)
    assert "step 6/6: training loss" in out
    model = out.splitlines()[-1]
    assert model.startswith("ft:tiny:local:far:")
    n_jobs = len(client.fine_tuning.jobs.list().data)
    again = done(jobs("run", settings / "train.jsonl", "--region", "account", "--model", "tiny", "--suffix", "far", *SHORT))
    assert again.splitlines()[-1] == model
    assert len(client.fine_tuning.jobs.list().data) == n_jobs
    assert done(jobs("ask", model, "Where is Rome?", "--region", "account", "--max-tokens", "8")).strip()
    assert model in done(jobs("list", "--region", "account"))
    assert "nothing to deploy" in jobs("deploy", model, "--name", "x", "--region", "account")[2]
    assert done(jobs("delete", model, "--region", "account")) == f"{model}: deleted\n"
    assert done(jobs("delete", model, "--region", "account")) == f"{model}: was not there\n"
    lines = (settings / "state" / "remote" / "account.jsonl").read_text(encoding="utf-8").splitlines()
    assert [re.search(r'"kind":"(\w+)"', line)[1] for line in lines] == ["training", "training", "answer"]


def test_a_job_in_an_azure_resource_is_paused_resumed_deployed_asked_and_deleted(jobs, settings):
    order = ("run", settings / "train.jsonl", "--region", "swedencentral2", "--model", "tiny")
    assert "There is no region" in jobs(*order)[2]
    order = ("run", settings / "train.jsonl", "--region", "resource", "--model", "tiny", "--epochs", "40", "--batch", "1", "--seed", "8", "--yes")
    begun = done(jobs(*order, "--no-watch")).splitlines()[-1]
    job = begun.split(":")[0]
    assert done(jobs("pause", job, "--region", "resource")) == f"{job}: paused\n"
    assert done(jobs("resume", job, "--region", "resource")).startswith(f"{job}: ")
    out = done(jobs(*order))
    assert f"{job}: " in out
    model = out.splitlines()[-1]
    assert done(jobs("deploy", model, "--name", "mine", "--region", "resource")) == f"mine answers with {model} (DeveloperTier)\n"
    assert done(jobs("ask", "mine", "Where is Rome?", "--region", "resource")).strip()
    code, _, err = jobs("delete", model, "--region", "resource")
    assert (code, "deployed" in err or "deployment" in err) == (2, True)
    assert done(jobs("undeploy", "mine", "--region", "resource")) == "mine: deleted\n"
    assert done(jobs("delete", model, "--region", "resource")) == f"{model}: deleted\n"


def test_a_cancelled_job_is_said_and_made_anew_only_when_asked(jobs, settings):
    order = ("run", settings / "train.jsonl", "--region", "resource", "--model", "tiny", "--epochs", "50", "--batch", "1", "--seed", "9", "--yes")
    job = done(jobs(*order, "--no-watch")).splitlines()[-1].split(":")[0]
    assert done(jobs("cancel", job, "--region", "resource")) == f"{job}: cancelled\n"
    code, _, err = jobs(*order)
    assert (code, "was cancelled" in err, "--again" in err) == (1, True, True)
    second = done(jobs(*order, "--no-watch", "--again")).splitlines()[-1].split(":")[0]
    assert second != job
    done(jobs("cancel", second, "--region", "resource"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--region", "local"), "is of the kind 'machine'"),
        (("--region", "account", "--stays-in", "account"), "does not promise that"),
        (("--region", "account", "--stays-in", "Sweden Central"), "must stay in Sweden Central"),
        (("--region", "North Central US"), "endpoint ="),
        (("--region", "undated"), "0 jobs a month"),
        (("--region", "account", "--model", "qwen3-0.6b"), "is not tuned in account"),
    ],
)
def test_a_job_is_refused_before_anything_is_sent(jobs, settings, options, said):
    code, _, err = jobs("run", settings / "train.jsonl", "--model", "tiny", *options, *SHORT, "--suffix", "refused")
    assert (code, said in err) == (2, True), err


def test_without_its_key_a_region_says_which_variable(jobs):
    code, _, err = jobs("list", "--region", "account", FAR_KEY="")
    assert (code, "FAR_KEY is not set" in err) == (2, True)
