"""Replies and grades on disk."""
import asyncio

from feinschliff.app import study_answers
from feinschliff.app.study_answers import CHUNK, ArmFolder, n_chunks
from feinschliff.app.study_graders import Graders
from feinschliff.core.chat import Example, assistant, user
from feinschliff.core.ports import Reply, Score
from feinschliff.core.study import Data, Goal, GraderSpec, Study

EXAMPLES = tuple(Example(messages=(user(f"q{i}"), assistant(f"a{i}"))) for i in range(3))


def graders(base, **options):
    spec = GraderSpec(name="../who knows/what", type="exact", options=options)
    study = Study(
        name="s", task="t", why="w", arms=("base",), data=Data(files=("d",)), graders=(spec,), goal=Goal(grader=spec.name, at_least=1)
    )
    return Graders(study, base)


def test_chunks_are_cut_in_the_same_places():
    assert [n_chunks(n) for n in (0, 1, CHUNK, CHUNK + 1)] == [0, 1, 1, 2]


def test_answered_only_when_every_chunk_is_there(tmp_path):
    arm = ArmFolder(tmp_path / "arms" / "base")
    replies = [Reply("é\n", 3, 2, "length", latency_ms=1.5)]
    arm.write_chunk("test", 1, replies, 2.0)
    assert not arm.is_answered("test", CHUNK + 1)
    arm.write_chunk("test", 0, replies * CHUNK, 3.5)
    assert arm.is_answered("test", CHUNK + 1)
    assert arm.seconds("test", CHUNK + 1) == 5.5
    assert arm.replies("test", CHUNK + 1) == replies * (CHUNK + 1)
    assert arm.read_chunk("test", 2) is None
    assert arm.is_answered("validation", 0)


def test_grades_are_kept_until_grader_or_replies_change(tmp_path):
    arm = ArmFolder(tmp_path / "arms" / "base")
    arm.write_chunk("test", 0, [Reply("a0", 1, 1), Reply("no", 1, 1), Reply("A2", 1, 1)], 1.0)
    name = "../who knows/what"
    assert [o.value for o in arm.graded(graders(tmp_path), name, "test", EXAMPLES) if isinstance(o, Score)] == [1, 0, 0]
    (first,) = (tmp_path / "arms" / "base" / "grades").iterdir()  # whatever the grader is called
    time = first.stat().st_mtime_ns
    arm.graded(graders(tmp_path), name, "test", EXAMPLES)
    assert first.stat().st_mtime_ns == time
    arm.graded(graders(tmp_path, extract="fence"), name, "test", EXAMPLES)
    arm.write_chunk("test", 0, [Reply("a0", 1, 1), Reply("a1", 1, 1), Reply("A2", 1, 1)], 1.0)
    assert [o.value for o in arm.graded(graders(tmp_path), name, "test", EXAMPLES) if isinstance(o, Score)] == [1, 1, 0]
    assert len(list(first.parent.iterdir())) == 3


def test_latency_is_measured_once_one_at_a_time(tmp_path):
    asked = []

    async def responder(conversations):
        asked.append(len(conversations))
        return [Reply("x", 1, 1, latency_ms=7.0 + len(asked))]

    arm = ArmFolder(tmp_path)
    assert arm.latencies_ms() is None
    for _ in range(2):
        asyncio.run(arm.time_alone(responder, [e.prompt for e in EXAMPLES]))
    assert asked == [1, 1, 1]
    assert arm.latencies_ms() == [8.0, 9.0, 10.0]


def test_chunk_size_is_a_constant_of_the_format():
    assert study_answers.CHUNK == 256  # another one would ask the chunks of a resumed study in other batches
