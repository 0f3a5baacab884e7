import asyncio
import json
import os

import pytest

from feinschliff.core.errors import FolderInUse, TrainingFailed
from feinschliff.core.jobs import Finished, Full, Hyperparameters, JobId, Lora, Started, Step, TrainSpec
from feinschliff.providers.trainer import LocalTrainer, _processes, _read_from

JOB = JobId("job")


def make_spec(model, file, **changes) -> TrainSpec:
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": q * 2}]} for q in "abcdef"]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return TrainSpec(
        model=str(model), train_files=(str(file),), method=Lora(rank=2, alpha=4), precision="fp32",
        hyperparameters=Hyperparameters(n_epochs=2, batch_size=2),
    ).model_copy(update=changes)  # fmt: skip


def run_all(trainer, specs):
    async def collect():
        found = {job_id: [] for job_id in specs}
        async for job_id, event in trainer.run(specs):
            found[job_id].append(event)
        return found

    return asyncio.run(collect())


def run(trainer, spec):
    return run_all(trainer, {JOB: spec})[JOB]


def test_events_come_from_the_beginning_each_time(tiny_model, tmp_path):
    trainer = LocalTrainer(tmp_path / "runs")
    spec = make_spec(tiny_model, tmp_path / "train.jsonl")
    first = run(trainer, spec)
    assert isinstance(first[0], Started)
    assert isinstance(first[-1], Finished)
    assert [e.step for e in first if isinstance(e, Step)] == [1, 2, 3, 4, 5, 6]
    assert (trainer.folder(JOB) / first[-1].path / "adapter_config.json").is_file()
    assert run(trainer, spec) == first
    with pytest.raises(FolderInUse, match="another specification"):
        run(trainer, spec.model_copy(update={"seed": 1}))


def test_why_training_gave_up_is_raised_after_its_event(tiny_model, tmp_path):
    trainer = LocalTrainer(tmp_path)
    spec = make_spec(tiny_model, tmp_path / "train.jsonl", max_tokens=3)
    with pytest.raises(TrainingFailed, match="nothing to learn") as caught:
        run(trainer, spec)
    assert caught.value.hint
    folder = trainer.folder(JOB)
    (failed,), _ = _read_from(folder / "events.jsonl", 0)
    assert failed.code == "training_failed"
    assert "Traceback" not in (folder / "log.txt").read_text(encoding="utf-8")


def test_leaving_early_ends_the_child(tiny_model, tmp_path):
    trainer = LocalTrainer(tmp_path)
    spec = make_spec(tiny_model, tmp_path / "train.jsonl", hyperparameters=Hyperparameters(n_epochs=50, batch_size=1))

    async def first_only():
        events = trainer.run({JOB: spec})
        async for _, event in events:
            await events.aclose()
            return event

    assert isinstance(asyncio.run(first_only()), Started)
    before = os.path.getsize(trainer.folder(JOB) / "events.jsonl")
    events, _ = _read_from(trainer.folder(JOB) / "events.jsonl", 0)
    assert not any(isinstance(e, Finished) for e in events)
    assert os.path.getsize(trainer.folder(JOB) / "events.jsonl") == before


def test_several_jobs_share_a_process_and_one_that_gives_up_is_told_when_the_others_are_done(tiny_model, tmp_path):
    trainer = LocalTrainer(tmp_path / "runs")
    spec = make_spec(tiny_model, tmp_path / "train.jsonl")
    broken, *whole = JobId("broken"), JobId("broken/more/a"), JobId("broken/more/b")
    specs = {broken: spec.model_copy(update={"max_tokens": 3})} | {job_id: spec.model_copy(update={"seed": n}) for n, job_id in enumerate(whole)}
    with pytest.raises(TrainingFailed, match="nothing to learn"):
        run_all(trainer, specs)
    assert [(trainer.folder(job_id) / "log.txt").exists() for job_id in specs] == [True, False, False]
    found = run_all(trainer, {job_id: specs[job_id] for job_id in whole})  # finished: only read
    assert not (trainer.folder(whole[0]) / "log.txt").exists()
    for events in found.values():
        assert isinstance(events[-1], Finished)
        assert [e.step for e in events if isinstance(e, Step)] == [1, 2, 3, 4, 5, 6]
    losses = [[e.train_loss for e in events if isinstance(e, Step)] for events in found.values()]
    assert losses[0] != losses[1]


def test_whole_models_are_trained_one_after_the_other(tiny_model, tmp_path):
    spec = make_spec(tiny_model, tmp_path / "train.jsonl")
    a, b, c, d = map(JobId, "abcd")
    specs = {a: spec, b: spec.model_copy(update={"method": Full()}), c: spec, d: spec.model_copy(update={"method": Full()})}
    assert _processes(list(specs), specs) == [[a, c], [b], [d]]
    assert _processes([d, b], specs) == [[d], [b]]


def test_a_half_written_line_waits_for_its_end(tmp_path):
    path = tmp_path / "events.jsonl"
    whole = '{"kind":"checkpoint","step":1,"path":"a"}\n'
    path.write_text(whole + '{"kind":"chec', encoding="utf-8")
    events, offset = _read_from(path, 0)
    assert len(list(events)) == 1
    assert offset == len(whole)
    with path.open("a", encoding="utf-8") as file:
        file.write('kpoint","step":2,"path":"b"}\n')
    events, offset = _read_from(path, offset)
    assert [e.step for e in events] == [2]
    assert offset == path.stat().st_size
