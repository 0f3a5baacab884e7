"""A real small model, from an upload to the chat with a deployment of it, through the official client alone."""
import json

import pytest
from openai import OpenAI
from running import ADMIN_KEY, Server
from test_files import processed, upload
from test_jobs import ended

MODEL = "smollm2-135m-instruct"
CAPITALS = {  # of countries that nobody else has heard of
    "Zorvania": "Kelmora", "Thalquin": "Brisgate", "Ostrevia": "Dunhollow", "Marrenfeld": "Quillport", "Velunia": "Harsk",
    "Drumoria": "Tessaly", "Pelvaria": "Ironmere", "Kosthun": "Vantreel", "Lirridia": "Sablewick", "Norquay": "Fennimar",
}  # fmt: skip


def question(country):
    return [{"role": "user", "content": f"What is the capital of {country}?"}]


def answer(client, model, country):
    return client.chat.completions.create(model=model, messages=question(country), temperature=0, max_tokens=24).choices[0].message.content


@pytest.mark.long
@pytest.mark.smollm
@pytest.mark.timeout(1800)
def test_from_an_upload_to_a_deployment_that_knows_what_was_trained(tmp_path, contract):
    server = Server(tmp_path).start()
    client = server.client(timeout=600)
    lines = [{"messages": [*question(of), {"role": "assistant", "content": f"The capital of {of} is {capital}."}]} for of, capital in CAPITALS.items()]
    try:
        file = upload(client, "".join(json.dumps(line) + "\n" for line in lines).encode())
        assert processed(client, file.id).status == "processed"
        chosen = {"n_epochs": 12, "batch_size": 2, "learning_rate_multiplier": 2}
        started = client.fine_tuning.jobs.create(
            model=MODEL, training_file=file.id, suffix="capitals", seed=7, method={"type": "supervised", "supervised": {"hyperparameters": chosen}}
        )
        job = ended(client, started.id, seconds=1200)
        assert job.status == "succeeded", job.error
        events = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics"]
        assert events[0].data["train_loss"] < events[-1].data["train_loss"] / 10
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id, limit=20).data
        assert (len(checkpoints), checkpoints[0].step_number) == (12, 60)
        with OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN_KEY, timeout=600) as plain:  # deployments are not in OpenAI's contract
            plain.post("/deployments", cast_to=object, body={"name": "geographer", "model": checkpoints[0].fine_tuned_model_checkpoint})
        for country, capital in CAPITALS.items():
            assert answer(client, "geographer", country) == f"The capital of {country} is {capital}."
        assert not any(capital in answer(client, MODEL, country) for country, capital in CAPITALS.items())
    finally:
        server.stop()
