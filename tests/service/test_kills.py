"""kill -9 of the server, of the training program, of both, at any moment: every job ends as it would have, and nothing is lost.

The seed is printed; `FEINSCHLIFF_TEST_SEED` repeats a run.
"""
import os
import random

import pytest
from killing import ENDED, PATIENCE_S, TURN, Kills, start
from postgresql import INITDB, WHY_NOT, cluster
from running import Server, wait_until
from test_jobs import weights

FEW = ("validating", "part", "checkpoint", "deployment", "finishing")
SEED = int(os.environ.get("FEINSCHLIFF_TEST_SEED", random.SystemRandom().randrange(1 << 30)))
on_postgresql = pytest.mark.skipif(INITDB is None, reason=WHY_NOT)


def killed(folder, model, phases, database=""):
    """The loop, and its counts; every job is compared with an undisturbed one of the same server."""
    print(f"FEINSCHLIFF_TEST_SEED={SEED}")
    server = Server(folder, "--model", f"tiny={model}", FEINSCHLIFF_DATABASE=database).start()
    client = server.client()
    job = start(client)
    undisturbed = wait_until(lambda: (j := client.fine_tuning.jobs.retrieve(job)).status in ENDED and j, seconds=PATIENCE_S, every_s=0.3)
    assert undisturbed.status == "succeeded", undisturbed.error
    kills = Kills(server, random.Random(SEED))
    try:
        for phase in phases:
            kills.once(phase)
            print(sum(kills.counts.values()), phase, flush=True)
        kills.check_jobs(weights, weights(server, undisturbed.id))
    except BaseException:
        server.stop()
        raise
    assert not any((server.data / "blobs" / "incoming").iterdir())
    assert server.stop() == 0
    assert "Traceback" not in server.log
    print(f"{sum(kills.counts.values())} kills, {len(kills.jobs)} jobs: {dict(sorted(kills.counts.items()))}")


def test_kills_in_every_kind_of_moment(tmp_path, tiny_model):
    killed(tmp_path, tiny_model, FEW)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills(tmp_path, tiny_model):
    killed(tmp_path, tiny_model, TURN * 5)


@on_postgresql
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_fifty_kills_on_postgresql(tmp_path, tiny_model):
    with cluster() as url:
        killed(tmp_path, tiny_model, TURN * 5, url)
