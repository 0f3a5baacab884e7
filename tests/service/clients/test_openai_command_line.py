"""`openai api …`, the command line of openai 2.34.0 (the last that had one), from an upload to the tuned model's answer.

Its `files.retrieve` and `files.delete` end in an error of its own before they ask anybody, so they are not here.
"""
import json

import pytest
from running import ADMIN_KEY, wait_until
from test_files import training_lines

from installed import python_of, run

pytestmark = pytest.mark.timeout(900)  # the first time, packages are installed
LEARNT = {"n_epochs": 50, "batch_size": 2, "learning_rate_multiplier": 2}


@pytest.fixture(scope="module")
def openai(relay):
    """Runs one command; what it printed, read as JSON where it is some. A list of files or models is printed one by one."""
    program = python_of("openai-2.34.0").with_name("openai")
    assert run(program, "--version").strip() == "openai 2.34.0"

    def command(*arguments):
        printed = run(program, "api", *arguments, OPENAI_API_KEY=ADMIN_KEY, OPENAI_BASE_URL=f"{relay.url}/v1")
        if not printed.startswith("{"):
            return printed
        printed = printed.strip()
        found = []
        while printed:
            value, end = json.JSONDecoder().raw_decode(printed)
            found.append(value)
            printed = printed[end:].lstrip()
        return found if arguments[0] in ("files.list", "models.list") else found[0]

    return command


@pytest.fixture(scope="module")
def job(openai, tmp_path_factory):
    lines = tmp_path_factory.mktemp("data") / "train.jsonl"
    lines.write_bytes(training_lines())
    file = openai("files.create", "-f", str(lines), "-p", "fine-tune")
    assert (file["filename"], file["bytes"]) == ("train.jsonl", lines.stat().st_size)
    job = openai("fine_tuning.jobs.create", "-m", "tiny", "-F", file["id"], "-H", json.dumps(LEARNT), "-s", "cli")
    assert (job["training_file"], job["user_provided_suffix"]) == (file["id"], "cli")

    def ended():
        now = openai("fine_tuning.jobs.retrieve", "-i", job["id"])
        return now if now["status"] in ("succeeded", "failed", "cancelled") else None

    return wait_until(ended, seconds=200, every_s=1)


def test_from_an_upload_to_the_tuned_models_answer(openai, job):
    assert job["status"] == "succeeded", job
    assert job["fine_tuned_model"].startswith("ft:tiny:local:cli:")
    ask = ("chat.completions.create", "-g", "user", "What is 1+3?", "-t", "0", "-M", "12", "-m")
    answer = openai(*ask, job["fine_tuned_model"])
    assert answer.startswith("It is")  # which number, the command line's seed decides
    assert openai(*ask, job["fine_tuned_model"], "--stream").strip() == answer.strip()
    assert openai(*ask, "tiny").strip() != answer.strip()
    assert openai("completions.create", "-m", "tiny", "-p", "One two", "-M", "4", "-t", "0").startswith("One two") is False
    with pytest.raises(AssertionError, match="The model 'none' does not exist"):
        openai(*ask, "none")


def test_jobs_files_and_models_are_listed_cancelled_and_deleted(openai, job):
    assert [j["id"] for j in openai("fine_tuning.jobs.list")["data"]] == [job["id"]]
    events = openai("fine_tuning.jobs.list_events", "-i", job["id"], "-l", "3")["data"]
    assert events[0]["message"] == "The job has successfully completed"
    second = openai("fine_tuning.jobs.create", "-m", "tiny", "-F", job["training_file"])
    assert openai("fine_tuning.jobs.cancel", "-i", second["id"])["status"] == "cancelled"
    assert {job["training_file"], *job["result_files"]} <= {f["id"] for f in openai("files.list")}
    assert job["fine_tuned_model"] in [m["id"] for m in openai("models.list")]
    assert openai("models.retrieve", "-i", "tiny")["owned_by"] != ""
    openai("models.delete", "-i", job["fine_tuned_model"])
    assert job["fine_tuned_model"] not in [m["id"] for m in openai("models.list")]
