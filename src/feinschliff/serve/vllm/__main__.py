"""`python -m feinschliff.serve.vllm MODEL_DIR --python PYTHON`: the lines of core.live, answered by vLLM. Ends when its stdin does."""
import argparse
import asyncio
import shlex
import sys
from pathlib import Path

from feinschliff.core.live import Limits
from feinschliff.serve.vllm.program import run
from feinschliff.serve.vllm.server import Vllm


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m feinschliff.serve.vllm")
    parser.add_argument("model", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="an interpreter that has vLLM")
    parser.add_argument("--options", type=shlex.split, default=[], help="further options of `vllm serve`, as on a command line")
    parser.add_argument("--limits", type=Limits.model_validate_json, default=Limits(), help="a JSON object")
    arguments = parser.parse_args()
    return asyncio.run(run(arguments.model, arguments.limits, Vllm(arguments.python, tuple(arguments.options))))


if __name__ == "__main__":
    sys.exit(main())
