"""Hosted models of a study: what is refused before anything is asked, and answers that are not paid for twice."""
import asyncio
from types import SimpleNamespace

import pytest

from feinschliff.compose import study_hosts
from feinschliff.core.chat import user
from feinschliff.core.engine import Sampling
from feinschliff.core.errors import FeinschliffError, NotOffered, ProviderUnreachable, RegionNotConfigured
from feinschliff.core.finetune import TuningHyperparameters
from feinschliff.core.ports import Reply
from feinschliff.core.study import Data, Goal, GraderSpec, Hosted, Study, Training
from feinschliff.providers.remote.kept import KeptAnswers
from feinschliff.providers.remote.responder import RemoteResponder
from remote_settings import hosted_model, resource

OWN = Hosted(region="resource", model="far", hyperparameters=TuningHyperparameters(n_epochs=2))


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    (tmp_path / "regions.toml").write_text(resource("http://127.0.0.1:9", managed=False), encoding="utf-8")
    (tmp_path / "models.toml").write_text(hosted_model("far"), encoding="utf-8")
    for name, value in (("FEINSCHLIFF_CONFIG", tmp_path), ("FEINSCHLIFF_STATE", tmp_path / "state"), ("FAR_KEY", "key")):
        monkeypatch.setenv(name, str(value))


def study(arms, hosted=OWN, stays_in=(), **training):
    return Study(
        name="s", task="t", why="w", hosted={"azure": hosted}, arms=arms, data=Data(files=("d",), stays_in=stays_in),
        graders=(GraderSpec(name="g", type="exact"),), goal=Goal(grader="g", at_least=0.5), training=Training(**training),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (study(("base", "azure"), stays_in=("local",)), NotOffered, "must stay in local"),
        (study(("base", "azure"), hosted=Hosted(region="nowhere", model="far")), RegionNotConfigured, "nowhere"),
        (study(("base", "azure"), hosted=Hosted(region="resource", model="smollm2-135m-instruct")), NotOffered, "not a model of"),
        (study(("base", "azure+tuned"), hosted=Hosted(region="resource", model="far"), lr_probe=True), NotOffered, "lr_probe"),
        (study(("base", "azure+tuned")), RegionNotConfigured, "needs subscription"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(given, error, said, tmp_path):
    with pytest.raises(error, match=said):
        study_hosts(given, tmp_path / "out")
    assert not (tmp_path / "state").exists()


def test_without_its_key_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("FAR_KEY", "")
    with pytest.raises(FeinschliffError, match="FAR_KEY is not set"):
        study_hosts(study(("base", "azure")), tmp_path / "out")


def test_a_study_that_asks_no_host_needs_no_region(tmp_path):
    assert study_hosts(study(("base", "tuned"), hosted=Hosted(region="nowhere", model="far")), tmp_path) == {}


class Told(RemoteResponder):
    """Answers by itself, counting; the first calls find nobody there."""

    def _ask(self, conversation, *, alone):
        self.account.asked.append(conversation)
        if len(self.account.asked) <= self.account.silent:
            raise ProviderUnreachable("nobody", retry_after_s=7.0)
        return Reply(conversation[0].content.upper(), 3, 2)


def asked(tmp_path, *texts, silent=0, patience_s=100.0):
    account = SimpleNamespace(asked=[], silent=silent, slept=[])
    account.sleep = account.slept.append
    responder = Told(account, "far", Sampling(), kept=KeptAnswers(tmp_path / "answers.jsonl"), patience_s=patience_s)
    return account, asyncio.run(responder([(user(text),) for text in texts]))


def test_what_was_answered_before_a_kill_is_not_asked_again(tmp_path):
    first, replies = asked(tmp_path, "a", "b")
    with (tmp_path / "answers.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"key": "half a li')
    second, again = asked(tmp_path, "a", "b", "c")
    assert (len(first.asked), [c[0].content for c in second.asked]) == (2, ["c"])
    assert list(again[:2]) == list(replies)
    assert [r.text for r in again] == ["A", "B", "C"]
    assert asked(tmp_path, "a", "b", "c")[0].asked == []
    assert len(asked(tmp_path, "a")[0].asked) == 1  # alone it is timed, so it is asked


def test_a_silent_provider_is_waited_for_but_not_for_ever(tmp_path):
    account, (reply,) = asked(tmp_path, "a", silent=2)
    assert (reply.text, account.slept) == ("A", [7.0, 7.0])
    with pytest.raises(ProviderUnreachable):
        asked(tmp_path, "b", silent=2, patience_s=10.0)
