"""Limits of the settings folder, held by a real server."""
import pytest
from openai import APIStatusError
from running import Server
from test_files import training_lines, upload

LIMITS = {
    "projects.toml": "[projects.frugal.quota]\njobs_per_month = 1\n",
    "prices.toml": "[machine]\nper_hour = 2.0\ncurrency = 'EUR'\n",
    "models.toml": "[[models]]\nid = 'house'\nkind = 'chat'\nlicence = 'ours'\nabout = 'ours'\nsource = 'us'\n",
}


def test_a_server_reads_the_settings_folder_and_refuses_what_is_beyond_it(tmp_path, tiny_model):
    config = tmp_path / "config"
    config.mkdir()
    for name, text in LIMITS.items():
        (config / name).write_text(text, encoding="utf-8")
    server = Server(tmp_path, "--model", f"tiny={tiny_model}", FEINSCHLIFF_CONFIG=str(config)).start()
    client = server.client(server.run("keys", "create", "someone", "--project", "frugal"))
    file = upload(client, training_lines(12))
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    with pytest.raises(APIStatusError, match="project frugal: 1 jobs a month, 1 used, this job needs 1") as refused:
        client.fine_tuning.jobs.create(model="tiny", training_file=file.id)
    assert (refused.value.status_code, refused.value.code) == (402, "over_budget")
    assert server.http().get(f"/v1/fine_tuning/jobs/{job.id}/cost").status_code == 404  # another project's
    assert "house" in {m["id"] for m in server.http().get("/v1/catalog/models").json()["data"]}
    assert server.stop() == 0
