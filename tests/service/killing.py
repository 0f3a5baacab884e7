"""kill -9 at chosen and at random moments, and what must hold after every restart."""
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread

import httpx2
from openai import APIConnectionError, APIStatusError, OpenAI
from running import Server, children_of, wait_until
from test_files import training_lines, upload

PAYLOAD = {"n_epochs": 10, "batch_size": 2}
N_STEPS = 100  # of 20 examples
SAVED_EVERY = 10  # steps: an epoch's end saves, too
PATIENCE_S = 1000
CUT = (httpx2.TransportError, APIConnectionError)
ENDED = ("succeeded", "failed", "cancelled")
# In the order of one job's life, uploads and deployments between; a whole turn is one job.
TURN = ("validating", "upload", "queued", "part", "running", "checkpoint", "complete", "deployment", "running", "finishing")


@dataclass
class Kills:
    """The loop: every phase of `TURN` is begun, killed in the middle, and looked at after the restart."""

    server: Server
    chance: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)
    payloads: set[bytes] = field(default_factory=set)  # of files that a client tried to bring
    kept: dict[str, bytes] = field(default_factory=dict)  # file id → content: what the server has acknowledged
    deployed: set[str] = field(default_factory=set)
    _client: OpenAI | None = None

    @property
    def client(self) -> OpenAI:
        """One for each start of the server."""
        if self._client is None or not str(self._client.base_url).startswith(self.server.url):
            self._client = self.server.client(timeout=PATIENCE_S)
        return self._client

    def once(self, phase: str) -> None:
        getattr(self, f"_{phase}")()
        self._check_files()

    # the moments

    def _validating(self) -> None:
        self.jobs.append(start(self.client))
        self._kill("validating", self._either(), within_s=0.3)

    def _queued(self) -> None:
        self._open_job()
        client, job = self.client, self.jobs[-1]
        wait_until(lambda: client.fine_tuning.jobs.retrieve(job).status != "validating_files", seconds=PATIENCE_S, every_s=0.01)
        self._kill("queued", self._either(), within_s=1)

    def _running(self) -> None:
        log, least = self._open_job() / "events.jsonl", self.chance.randrange(1, N_STEPS - 10)
        wait_until(lambda: lines_in(log) > least or self._has_ended(), seconds=PATIENCE_S, every_s=0.05)
        self._kill("running", self._any(), within_s=0.2)

    def _checkpoint(self) -> None:
        """While one is being written: its folder still has the name of a part."""
        run = self._open_job()
        wait_until(lambda: any(run.glob("checkpoints/.*.partial")) or any(run.glob("state/.*.partial")) or (run / "model").exists(), seconds=PATIENCE_S, every_s=0.001)
        self._kill("checkpoint", self._any(), within_s=0)

    def _finishing(self) -> None:
        """From the moment when the model is being written until the job is told to have succeeded."""
        run = self._open_job()
        wait_until(lambda: (run / ".model.partial").exists() or (run / "model").exists(), seconds=PATIENCE_S, every_s=0.001)
        self._kill("finishing", self._any(), within_s=0.1)

    def _upload(self) -> None:
        content = self._payload(4 << 20)
        self._during("upload", lambda client: self._keep(upload(client, content, "u.bin", "user_data").id, content))

    def _part(self) -> None:
        parts = [self._payload(1 << 19) for _ in range(6)]
        content, there = b"".join(parts), dict[int, str]()
        self.payloads.add(content)
        made = self.client.uploads.create(bytes=len(content), filename="p.bin", mime_type="application/octet-stream", purpose="user_data")

        def bring(client: OpenAI) -> None:
            for i, part in enumerate(parts):
                there[i] = client.uploads.parts.create(made.id, data=part).id

        self._during("part", bring)
        client = self.client
        for i in set(range(6)) - set(there):
            there[i] = client.uploads.parts.create(made.id, data=parts[i]).id
        done = client.uploads.complete(made.id, part_ids=[there[i] for i in range(6)])
        self._keep(done.file.id, content)

    def _complete(self) -> None:
        parts = [self._payload(1 << 20) for _ in range(3)]
        content = b"".join(parts)
        self.payloads.add(content)
        client = self.client
        made = client.uploads.create(bytes=len(content), filename="c.bin", mime_type="application/octet-stream", purpose="user_data")
        ids = [client.uploads.parts.create(made.id, data=part).id for part in parts]
        self._during("complete", lambda c: self._keep(c.uploads.complete(made.id, part_ids=ids).file.id, content))
        with suppress(APIStatusError):  # it was completed, if unheard; the check of files finds it then, and once
            self._keep(self.client.uploads.complete(made.id, part_ids=ids).file.id, content)
        assert list(self._contents().values()).count(content) == 1

    def _deployment(self) -> None:
        names = [f"d{len(self.counts)}-{self.chance.randrange(1 << 30)}-{i}" for i in range(40)]

        def deploy(_client: OpenAI) -> None:
            http = self.server.http()
            for name in names:
                assert http.post("/v1/deployments", json={"name": name, "model": "tiny"}).is_success
                self.deployed.add(name)

        self._during("deployment", deploy)
        http = self.server.http()
        shown = {d["name"]: d["model"] for d in http.get("/v1/deployments", params={"limit": 100}).json()["data"]}
        assert self.deployed & set(names) <= set(shown)
        assert len(set(shown) & set(names) - self.deployed) <= 1  # the one that was on its way
        assert set(shown.values()) <= {"tiny"}  # none, where the kill came before the first
        for name in set(shown):
            http.delete(f"/v1/deployments/{name}")
        self.deployed.clear()

    # the kill

    def _any(self) -> str:
        return self.chance.choice(("server", "program", "both"))

    def _either(self) -> str:
        """Where there may be no training program yet."""
        return self.chance.choice(("server", "both"))

    def _during(self, phase: str, work: Callable[[OpenAI], None]) -> None:
        client = self.client

        def until_cut() -> None:
            with suppress(*CUT):
                work(client)

        thread = Thread(target=until_cut)
        thread.start()
        self._kill(phase, self._either(), within_s=0.5, then=thread.join)

    def _kill(self, phase: str, victims: str, *, within_s: float, then: Callable[[], None] = lambda: None) -> None:
        time.sleep(self.chance.uniform(0, within_s))
        assert self.server.process is not None
        children = children_of(self.server.process.pid)
        programs = [p for run in self.server.data.glob("runs/*/program") for p in [int((run.read_text().split() or ["0"])[0])] if p]
        if victims != "program":
            os.kill(self.server.process.pid, signal.SIGKILL)
        if victims != "server":
            for pid in {*programs} | ({*children} if victims == "both" else set()):
                self.server.kill_process(pid)
        then()
        if victims != "program":
            self.server.kill()  # reaps it
            self.server.start()
        self.counts[f"{phase}, {victims}"] += 1

    # what must hold

    def _open_job(self):
        """The run's folder of a job that has not ended."""
        if not self.jobs or self._has_ended():
            self.jobs.append(start(self.client))
        return self.server.data / "runs" / self.jobs[-1]

    def _has_ended(self) -> bool:
        with suppress(APIConnectionError):
            return self.client.fine_tuning.jobs.retrieve(self.jobs[-1]).status in ENDED
        return False

    def _payload(self, size: int) -> bytes:
        content = self.chance.randbytes(size)
        self.payloads.add(content)
        return content

    def _keep(self, file_id: str, content: bytes) -> None:
        self.kept[file_id] = content

    def _contents(self) -> dict[str, bytes]:
        client = self.client
        return {f.id: client.files.content(f.id).read() for f in client.files.list(purpose="user_data")}

    def _check_files(self) -> None:
        """What was acknowledged is there, and nothing is there by halves."""
        there = self._contents()
        assert {i: there.get(i) for i in self.kept} == self.kept
        assert set(there.values()) <= self.payloads
        for file_id in there:  # so that the next look is no longer one
            self.client.files.delete(file_id)
        self.kept.clear()
        self.payloads.clear()

    def check_jobs(self, weights: Callable[[Server, str], bytes], wanted: bytes) -> None:
        """Every job ended as an undisturbed one, once, with every event told once and in order."""
        client = self.client
        assert [j.id for j in client.fine_tuning.jobs.list(limit=100)][::-1][-len(self.jobs) :] == self.jobs
        for job_id in self.jobs:
            job = wait_until(lambda: (j := client.fine_tuning.jobs.retrieve(job_id)).status in ENDED and j, seconds=PATIENCE_S, every_s=0.2)  # noqa: B023  used at once
            assert job.status == "succeeded", job.error
            assert weights(self.server, job_id) == wanted
            events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))[::-1]
            assert [e.data["step"] for e in events if e.type == "metrics"] == list(range(1, N_STEPS + 1))
            messages = [e.message for e in events]
            assert [m for m, n in Counter(messages).items() if n > 1] == []
            assert messages[-1] == "The job has successfully completed"
            assert len(job.result_files) == 1
            assert len([m for m in client.models.list() if m.id == job.fine_tuned_model]) == 1
            check_log(self.server.data / "runs" / job_id / "events.jsonl")


def start(client: OpenAI) -> str:
    file = upload(client, training_lines(20))
    method = {"type": "supervised", "supervised": {"hyperparameters": PAYLOAD}}
    return client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method, seed=7).id


def lines_in(log) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def check_log(log) -> None:
    """A step that was saved is not made again, the run ends once, and after its end no program trains."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["kind"] for e in events].count("finished") == 1
    reached, at = 0, 0
    for event in events:
        match event["kind"]:
            case "started":
                assert reached - event["first_step"] <= SAVED_EVERY, (reached, event["first_step"])
                at = event["first_step"]
            case "step":
                assert event["step"] == at + 1
                at, reached = at + 1, max(reached, at + 1)
    assert events[-1]["kind"] == "finished"
