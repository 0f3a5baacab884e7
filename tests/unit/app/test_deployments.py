"""Deployments, on a real database with a clock of its own."""
from dataclasses import replace

import pytest
from sqlalchemy import select

from feinschliff.app import deployments as use
from feinschliff.app.deployments import NewDeployment
from feinschliff.app.keys import OPERATOR, create_key
from feinschliff.app.models import delete_model, grant, revoke
from feinschliff.compose_service import open_service
from feinschliff.core.service import Caller, JobStatus, KeyId, ProjectId, Scope, Tier
from feinschliff.core.service_errors import Conflict, NotFound, RequestError
from feinschliff.core.settings import Settings
from feinschliff.store.keys import find_project
from feinschliff.store.paging import Cursor
from feinschliff.store.tables import AuditRow, JobRow, ModelRow

HOUR, DAY = 3600, 24 * 3600
TUNED = "ft:tiny:local::abc"
ME = OPERATOR


class Clock:
    now = 1_800_000_000

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def service(tmp_path, clock):
    """With the base model `tiny` on offer, and a tuned one in a job that has ended."""
    with open_service(Settings(data_dir=tmp_path, models={"tiny": tmp_path})) as opened:
        service = replace(opened, clock=clock)
        create_key(service, project="default", name="me", scope=Scope.ADMIN)
        job = JobRow(
            id="ftjob-1", project_id=ME.project, status=JobStatus.SUCCEEDED, model="tiny", training_file="file-1", seed=1, request={},
            hyperparameters={}, result_files=[], created_at=0,
        )  # fmt: skip
        with service.database.write() as db:
            db.add(job)
            db.flush()
            db.add(ModelRow(name=TUNED, project_id=ME.project, job_id=job.id, base="tiny", folder="runs/x", created_at=0))
        yield service


@pytest.fixture
def friend(service):
    """A caller of another project."""
    create_key(service, project="friends", name="friend", scope=Scope.WRITE)
    with service.database.read() as db:
        return Caller(ProjectId(find_project(db, "friends").id), KeyId("key_friend"), Scope.WRITE)


def names(service, caller=ME):
    return [row.name for row in use.all_deployments(service, caller)]


def actions(service):
    with service.database.read() as db:
        return [(a.action, a.subject) for a in db.scalars(select(AuditRow)) if a.action.startswith("deployment")]


def test_a_deployment_is_made_changed_and_deleted_and_each_is_on_record(service, clock):
    made = use.put_deployment(service, ME, NewDeployment("mine", TUNED))
    assert (made.made, made.row.model, made.row.tier) == (True, TUNED, "standard")
    clock.now += 5
    same = use.put_deployment(service, ME, NewDeployment("mine", TUNED))
    assert (same.made, same.row.id, same.row.updated_at) == (False, made.row.id, clock.now - 5)
    changed = use.put_deployment(service, ME, NewDeployment("mine", "tiny", Tier.DEVELOPER))
    assert (changed.made, changed.row.id, changed.row.model, changed.row.updated_at) == (False, made.row.id, "tiny", clock.now)
    with pytest.raises(Conflict, match="already"):
        use.put_deployment(service, ME, NewDeployment("mine", TUNED), replace=False)
    assert use.get_deployment(service, ME, "mine").tier == "developer"
    use.delete_deployment(service, ME, "mine")
    with pytest.raises(NotFound, match="no deployment 'mine'"):
        use.delete_deployment(service, ME, "mine")
    assert actions(service) == [("deployment.create", "mine"), ("deployment.update", "mine"), ("deployment.delete", "mine")]


@pytest.mark.parametrize("name", ["", "a b", "-a", "ft:x", "x" * 65])
def test_names_that_do_not_fit_into_a_path_are_refused(service, name):
    with pytest.raises(RequestError, match="no name for a deployment"):
        use.put_deployment(service, ME, NewDeployment(name, "tiny"))


def test_a_models_name_deploys_that_model_only(service):
    assert use.put_deployment(service, ME, NewDeployment("tiny", "tiny")).made
    for taken in ("all-minilm-l6-v2", "smollm2-135m-instruct"):
        with pytest.raises(Conflict, match="is the name of a model"):
            use.put_deployment(service, ME, NewDeployment(taken, TUNED))


def test_base_models_embedding_models_and_tuned_ones_are_deployed_and_no_others(service):
    for name, model in (("a", "tiny"), ("b", "all-minilm-l6-v2"), ("c", TUNED)):
        use.put_deployment(service, ME, NewDeployment(name, model))
    with pytest.raises(NotFound, match="does not exist"):
        use.put_deployment(service, ME, NewDeployment("d", "ft:tiny:local::other"))
    assert names(service) == ["a", "b", "c"]
    assert [r.name for r in use.list_deployments(service, ME, Cursor(2)).rows] == ["c", "b"]
    assert [use.model_of(service, ME, n) for n in ("a", "b", "c", "none")] == ["tiny", "all-minilm-l6-v2", TUNED, "none"]


def test_projects_do_not_see_each_others_deployments(service, friend):
    use.put_deployment(service, ME, NewDeployment("mine", TUNED))
    assert names(service, friend) == []
    assert use.model_of(service, friend, "mine") == "mine"
    with pytest.raises(NotFound):
        use.put_deployment(service, friend, NewDeployment("theirs", TUNED))
    assert use.put_deployment(service, friend, NewDeployment("mine", "tiny")).made


def test_a_deployed_model_is_not_deleted(service):
    use.put_deployment(service, ME, NewDeployment("mine", TUNED))
    with pytest.raises(Conflict, match="is deployed as 'mine'"):
        delete_model(service, ME, TUNED)
    use.delete_deployment(service, ME, "mine")
    delete_model(service, ME, TUNED)


def test_a_friends_deployment_keeps_a_model_until_its_permission_ends(service, friend):
    (permission,) = grant(service, ME, TUNED, [friend.project])
    use.put_deployment(service, friend, NewDeployment("theirs", TUNED))
    with pytest.raises(Conflict, match="by a project that it is granted to"):
        delete_model(service, ME, TUNED)
    revoke(service, ME, TUNED, permission.id)
    delete_model(service, ME, TUNED)


def test_a_tuned_models_deployment_goes_after_fifteen_days_without_a_call(service, clock):
    use.put_deployment(service, ME, NewDeployment("called", TUNED))
    use.put_deployment(service, ME, NewDeployment("idle", TUNED))
    use.put_deployment(service, ME, NewDeployment("base", "tiny"))
    clock.now += 10 * DAY
    use.model_of(service, ME, "called")
    assert not use.remove_overdue(service)
    clock.now += 5 * DAY
    assert use.remove_overdue(service)
    assert names(service) == ["called", "base"]
    assert actions(service)[-1] == ("deployment.expire", "idle")
    clock.now += 10 * DAY
    assert use.remove_overdue(service)
    assert names(service) == ["base"]
    delete_model(service, ME, TUNED)  # it was still there


def test_a_developer_deployment_goes_after_a_day_called_or_not(service, clock):
    for name, model in (("a", TUNED), ("b", "tiny")):
        use.put_deployment(service, ME, NewDeployment(name, model, Tier.DEVELOPER))
    clock.now += 23 * HOUR
    use.model_of(service, ME, "a")
    assert not use.remove_overdue(service)
    clock.now += HOUR
    assert use.remove_overdue(service)
    assert names(service) == []


def test_calls_are_noted_once_a_minute(service, clock):
    use.put_deployment(service, ME, NewDeployment("mine", TUNED))

    def called_at():
        use.model_of(service, ME, "mine")
        return use.get_deployment(service, ME, "mine").called_at

    first = called_at()
    assert first == clock.now
    clock.now += 59
    assert called_at() == first
    clock.now += 1
    assert called_at() == clock.now
