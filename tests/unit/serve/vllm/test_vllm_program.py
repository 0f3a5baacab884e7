"""`python -m feinschliff.serve.vllm` where vLLM does not come up; where it does: tests/service/test_vllm.py."""
import asyncio
import sys
import time
from pathlib import Path

import pytest

from feinschliff.compute import process
from feinschliff.core.live import LIVE_EVENT, Declined, Limits, Submit, TextPrompt
from feinschliff.serve.vllm import wire
from feinschliff.serve.vllm.engine import VllmEngine, prompts_of
from feinschliff.serve.vllm.program import Desk, say


@pytest.fixture
def start(tmp_path, tiny_model):
    children = []

    def begin(python, options="", folder=tiny_model):
        arguments = [str(folder), "--python", str(python), f"--options={options}"]
        children.append(process.start("feinschliff.serve.vllm", arguments, tmp_path / "log.txt", talk=True))
        return children[-1]

    yield begin
    for child in children:
        process.stop(child)


def test_an_interpreter_without_vllm_is_named_with_a_remedy(start, tmp_path):
    child = start(sys.executable, "--max-model-len 64")
    refused = LIVE_EVENT.validate_json(child.stdout.readline())
    assert isinstance(refused, Declined)
    assert (refused.id, refused.code) == ("", "program_failed")
    assert sys.executable in refused.message
    assert "--max-model-len 64" in refused.message
    assert "--engine feinschliff" in refused.hint
    assert child.wait() == 1
    assert "No module named" in (tmp_path / "log.txt").read_text()


def test_a_folder_that_is_no_model_is_told_without_starting_vllm(start, tmp_path):
    child = start("/no/python", folder=tmp_path)
    refused = LIVE_EVENT.validate_json(child.stdout.readline())
    assert (refused.code, child.wait()) == ("model_unavailable", 1)


def test_the_end_of_stdin_ends_it_while_vllm_still_loads(start, tmp_path):
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    slow.chmod(0o755)
    child = start(slow)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert child.poll() is None
        time.sleep(0.05)
    pid = int((tmp_path / "pid").read_text())
    child.stdin.close()
    assert child.wait() == 0
    assert not process_runs(pid)


def test_whoever_asked_is_told_of_what_nobody_thought_of(tmp_path, tiny_model, capsys):
    (tmp_path / "adapter_model.safetensors").touch()  # and no adapter_config.json
    request = Submit(id="a", prompt=TextPrompt(text="Hi"), adapter=str(tmp_path))

    engine = VllmEngine(tiny_model, prompts_of(tiny_model), None, say, Limits())  # it comes to no server
    asyncio.run(Desk(engine)._answer(request))
    told = LIVE_EVENT.validate_json(capsys.readouterr().out)
    assert (told.id, told.code) == ("a", "program_failed")
    assert "adapter_config.json" in told.message


class BreaksOff:
    """A server whose stream ends in the middle of an answer, as no real one can be made to."""

    async def complete(self, asked):
        yield wire.Chunk(choices=(wire.Choice(index=0, token_ids=(5,)),))


def test_an_answer_that_breaks_off_is_no_whole_one(tiny_model, capsys):
    engine = VllmEngine(tiny_model, prompts_of(tiny_model), BreaksOff(), say, Limits())
    asyncio.run(Desk(engine)._answer(Submit(id="a", prompt=TextPrompt(text="Hi"))))
    *_, last = (LIVE_EVENT.validate_json(line) for line in capsys.readouterr().out.splitlines())
    assert isinstance(last, Declined)
    assert "broke off" in last.message


def process_runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
