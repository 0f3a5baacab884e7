"""The service under load: files list, job status and chat by 50 clients at once, on SQLite and on PostgreSQL.

    python benchmarks/serving/service.py [--databases sqlite,postgresql] [--clients 50] [--seconds 10] [--lock FILE]

Each client asks one thing after the other over a connection of its own. Chats are of 8 new tokens, so that their latency is the
queue's and the engine's together. PostgreSQL is a server of its own in a temporary folder, made by tests/service/postgresql.py.
"""
import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent / "training"), str(HERE.parents[1] / "tests" / "service")]

import environments  # noqa: E402
import httpx2  # noqa: E402
from load import Prompts, session  # noqa: E402
from materials import MODEL, examples  # noqa: E402
from openai import OpenAI  # noqa: E402
from results import ROOT, machine  # noqa: E402
from server import Server, alone, company, free_port  # noqa: E402
from systems import KEY, Materials, feinschliff  # noqa: E402

from feinschliff.compose import model_folder  # noqa: E402
from feinschliff.data.files import write_text  # noqa: E402

FILES = 40
OUT = ROOT / "benchmarks" / "results" / "service.json"
UNITS = {"p50_ms": "ms", "p99_ms": "ms", "requests_per_s": "1/s, all clients", "memory_bytes": "proportional set size of all its processes"}


async def load(url: str, method: str, path: str, body: dict[str, Any] | None, clients: int, seconds: float) -> dict[str, float]:
    """All clients ask again and again. Latencies of answers; any status but 200 and 429 ends the benchmark."""
    latencies: list[float] = []
    refused = 0
    until = time.perf_counter() + seconds

    async def one(client: httpx2.AsyncClient) -> None:
        nonlocal refused
        while (began := time.perf_counter()) < until:
            response = await client.request(method, path, json=body)
            if response.status_code == 429:
                refused += 1
                await asyncio.sleep(0.1)
                continue
            if response.status_code != 200:
                raise SystemExit(f"{path}: {response.status_code} {response.text[:300]}")
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with session(url, KEY) as client:
        await asyncio.gather(*(one(client) for _ in range(clients)))
    cuts = quantiles(latencies, n=100)
    rate = len(latencies) / (time.perf_counter() - began)
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3, "requests_per_s": rate, "requests": len(latencies), "refused_429": refused}


def measured(server: Server, a: argparse.Namespace) -> dict[str, Any]:
    client = OpenAI(base_url=f"{server.url}/v1", api_key=KEY)
    files = [client.files.create(file=(f"{i}.jsonl", examples(i)), purpose="fine-tune") for i in range(FILES)]
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=files[0].id)
    client.fine_tuning.jobs.cancel(job.id)
    messages = Prompts(model_folder(MODEL)).conversation("load", 0)
    chat = {"model": MODEL, "messages": messages, "max_tokens": 8, "temperature": 0.0}
    with alone(a.lock):
        client.chat.completions.create(**chat)  # loads the engine
    found: dict[str, Any] = {"memory_before_bytes": server.memory_bytes()}
    asked = {
        "files list": ("GET", "/v1/files?limit=20", None), "job status": ("GET", f"/v1/fine_tuning/jobs/{job.id}", None),
        "chat": ("POST", "/v1/chat/completions", chat),
    }  # fmt: skip
    for name, (method, path, body) in asked.items():
        with alone(a.lock):
            asyncio.run(load(server.url, method, path, body, a.clients, 1.0))
            found[name] = asyncio.run(load(server.url, method, path, body, a.clients, a.seconds))
        print(f"benchmark: {name}: {json.dumps(found[name])}", flush=True)
    return found | {"memory_bytes": server.memory_bytes()}


@contextlib.contextmanager
def database(kind: str) -> Iterator[list[str]]:
    """Options of `feinschliff serve`."""
    if kind == "sqlite":
        yield []
        return
    from postgresql import INITDB, WHY_NOT, cluster

    if INITDB is None:
        raise environments.Unavailable(WHY_NOT)
    with cluster() as url:
        yield ["--database", url]


def main() -> None:
    a = _arguments()
    runs: dict[str, Any] = {}
    for kind in a.databases:
        print(f"benchmark: {kind}", flush=True)
        try:
            runs[kind] = _on(kind, a)
        except environments.Unavailable as why:
            runs[kind] = {"not run": str(why)}
            print(f"benchmark: not run: {why}", flush=True)
        beside = f"lock {a.lock}, real-time priority" if a.lock else "nothing else"
        document = machine() | {"clients": a.clients, "units": UNITS, "versions": environments.our_versions(), "beside": [beside, *sorted(company)]}
        write_text(a.out, json.dumps(document | {"databases": runs}, indent=1) + "\n")


def _on(kind: str, a: argparse.Namespace) -> dict[str, Any]:
    """A server of its own on an empty database."""
    with tempfile.TemporaryDirectory(prefix="feinschliff-load-") as folder, database(kind) as options:
        port = free_port()
        start = feinschliff(port, Materials(model_folder(MODEL), None, (), (), Path(folder) / "data"))
        with Server(replace(start, command=[*start.command, *options]), port, Path(folder) / "server.log") as server:
            return measured(server, a)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--databases", type=lambda text: text.split(","), default=["sqlite", "postgresql"])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0, help="per kind of request")
    parser.add_argument("--lock", type=Path, help="hold this file and run at real-time priority while measuring")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
