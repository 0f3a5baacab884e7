"""One study file with arms of this machine and of an Azure resource, which is `feinschliff serve` in another process."""
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
from small_study import environment, kill_family, make_study, without_clocks

import remote_settings

sys.path.insert(0, str(Path(__file__).parents[1] / "service"))

from running import ADMIN_KEY, Server, children_of

ARMS = 'arms = ["base", "prompt", "few_shot", "retrieval", "tuned", "tuned+prompt+retrieval"]'
CHANGES = (
    (ARMS, 'arms = ["base", "tuned", "azure", "azure+prompt", "azure+tuned"]'),
    ('contexts = ["plain", "prompt+retrieval"]', 'contexts = ["plain"]'),
    ("n_epochs = 2\nbatch_size = 8", "n_epochs = 4\nbatch_size = 4"),
    ("[data]\n", '[hosted.azure]\nregion = "resource"\nmodel = "far"\nhyperparameters = { n_epochs = 4, batch_size = 4 }\n\n[data]\nstays_in = ["local", "resource"]\n'),
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Pair:
    """The study on this side, the resource on the other; either may be killed and started again."""

    def __init__(self, folder: Path, model: Path, encoder: Path, *changes: tuple[str, str]) -> None:
        self.folder, self.out, self.settings = folder, folder / "out", folder / "settings"
        self.file = make_study(folder, model, encoder, *CHANGES, *changes)
        far = folder / "far"
        far.mkdir()
        self.server = Server(far, "--model", f"far={model}", "--port", str(free_port())).start()
        self.settings.mkdir()
        texts = {"regions": remote_settings.resource(self.server.url), "models": remote_settings.hosted_model("far"), "prices": remote_settings.price("far")}
        for name, text in texts.items():
            (self.settings / f"{name}.toml").write_text(text, encoding="utf-8")

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """`feinschliff` with the command, else the study itself."""
        given = command or ("study", "run", str(self.file), "--out", str(self.out), "--yes")
        own = {"FEINSCHLIFF_CONFIG": str(self.settings), "FEINSCHLIFF_STATE": str(self.folder / "state"), remote_settings.KEY: ADMIN_KEY}
        return subprocess.Popen(
            [sys.executable, "-m", "feinschliff.cli.main", *given], cwd=self.folder, env=environment(**own), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip

    def finish(self) -> dict:
        """To the end; what it wrote."""
        process = self.start()
        said, errors = process.communicate(timeout=1000)
        assert process.returncode == 0, f"{said[-1500:]}\n{errors}\n{self.server.log[-2000:]}"
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))

    def printed(self, *command: str) -> object:
        """What `feinschliff` prints with `--json`."""
        process = self.start(*command, "--json")
        said, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        return json.loads(said)

    def kill_resource(self) -> None:
        """With its programs, as when a machine goes; then it comes again."""
        assert self.server.process is not None
        programs = children_of(self.server.process.pid)
        self.server.kill()
        for pid in programs:
            self.server.kill_process(pid)
        self.server.start()

    def progress(self) -> int:
        """A number that grows with all that a study leaves on disk: answers, events of both trainings, chunks, timings, grades."""
        lines = [self.out / "hosted/azure/answers.jsonl", *self.out.glob("runs/**/events.jsonl")]
        return sum(file.read_bytes().count(b"\n") for file in lines if file.is_file()) + len(list(self.out.glob("arms/**/*.json")))

    def jobs(self) -> list[dict]:
        return self._get("/openai/fine_tuning/jobs?api-version=2024-10-21")["data"]

    def deployments(self) -> list[dict]:
        path = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.CognitiveServices/accounts/account/deployments"
        return self._get(f"{path}?api-version=2024-10-01")["value"]

    def _get(self, path: str) -> dict:
        with httpx2.Client(base_url=self.server.url, headers={"authorization": f"Bearer {ADMIN_KEY}"}, timeout=60) as client:
            answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ledger(self) -> list[dict]:
        lines = (self.folder / "state" / "remote" / "resource.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def disturb(pair: Pair, chance: random.Random, at: int) -> str:
    """Run the study until it has come so far (`Pair.progress`), and a moment longer; then kill -9 it, the resource, or both. What was killed."""
    process = pair.start()
    while pair.progress() < at and process.poll() is None:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 0.5))
    what = chance.choice(["study", "resource", "both"])
    if what in ("resource", "both"):
        pair.kill_resource()
    if what == "resource":  # the study goes on meanwhile, and a little after
        time.sleep(chance.uniform(0, 2))
    if process.poll() is None:
        if what == "both" or chance.random() < 0.5:
            kill_family(process.pid)
        else:  # its programs outlive it
            process.kill()
    process.communicate()
    return f"{what} at {at}"


def measured(report: dict) -> dict:
    """What two runs of the same study agree in. Answers of a live engine may differ with their company, as a hosted model's do."""
    cleaned = without_clocks(report)
    local = {arm["name"]: (arm["metrics"], arm["input_tokens"], arm["output_tokens"]) for arm in cleaned["arms"] if "azure" not in arm["name"]}
    hosted = [(host["name"], host["steps"], host["trained_tokens"], host["training_money"]) for host in cleaned["hosted"]]
    return {"decision": cleaned["verdict"]["decision"], "local arms": local, "hosted": hosted, "training": cleaned["training"], "held out": cleaned["held_out"]}
