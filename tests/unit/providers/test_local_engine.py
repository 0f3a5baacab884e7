import os
import signal

import numpy as np
import pytest

from feinschliff.compute import process
from feinschliff.core.chat import user
from feinschliff.core.engine import Generate, Sampling
from feinschliff.core.errors import BadData, ModelUnavailable, ProgramFailed
from feinschliff.providers.engine import LocalEmbedder, Program

SHORT = Sampling(max_tokens=4)


def test_refusals_come_back_as_their_own_errors(tiny_program):
    long = Generate(id=tiny_program.next_id(), conversations=((user("long " * 300),),), sampling=SHORT)
    with pytest.raises(BadData, match="Conversation 1 has") as caught:
        tiny_program.ask(long)
    assert "max_output_tokens" in caught.value.hint


def test_progress_is_told(tiny_program):
    told: list[int] = []
    chats = ((user("a"),), (user("b"),), (user("c"),))
    tiny_program.ask(Generate(id=tiny_program.next_id(), conversations=chats, sampling=SHORT, slots=1), told.append)
    assert told == [1, 2, 3]


def test_death_is_said_with_the_end_of_the_log(tiny_model, tmp_path):
    log = tmp_path / "log.txt"
    with Program(tiny_model, log) as program:
        log.write_text("first\n" + "line\n" * 9 + "last words\n", encoding="utf-8")
        os.kill(program._child.pid, signal.SIGKILL)
        program._child.wait()
        with pytest.raises(ProgramFailed, match="last words") as caught:
            program.ask(Generate(id=1, conversations=((user("a"),),), sampling=SHORT))
    assert "killed" in caught.value.message
    assert "first" not in caught.value.message
    assert str(log) in caught.value.hint


def test_a_folder_that_is_no_model_is_said_at_the_start(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"tokenizer\.json"):
        Program(tmp_path, tmp_path / "log.txt")


def test_a_program_that_dies_at_the_start_leaves_nothing_open(tmp_path, monkeypatch):
    monkeypatch.setattr(process.sys, "executable", "/bin/false")
    with pytest.raises(ProgramFailed, match="ended with code 1"):
        Program(tmp_path, tmp_path / "log.txt")


def test_embedder_gives_unit_rows_and_remembers_a_call(tiny_encoder, tmp_path):
    with Program(tiny_encoder, tmp_path / "log.txt", embedding=True) as program:
        embed = LocalEmbedder(program)
        vectors = embed(["a", "b c"])
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
        assert len(embed([])) == 0
    np.testing.assert_array_equal(embed(["a", "b c"]), vectors)  # the program is gone
