import pytest

from feinschliff.cli.service import limits_of
from feinschliff.core.errors import FeinschliffError
from feinschliff.core.settings import Limits


def test_limits_are_named_and_numbers():
    assert limits_of(["standard_idle_s=3600", "running_jobs=2"]) == Limits(standard_idle_s=3600, running_jobs=2)
    assert limits_of([]) == Limits()


@pytest.mark.parametrize("given", ["standard_idle_s=long", "standard_idle_s", "running_jobs=0", "runing_jobs=2"])
def test_others_are_refused_with_the_list(given):
    with pytest.raises(FeinschliffError, match=given.partition("=")[0]) as refused:
        limits_of([given])
    assert "developer_lives_s" in refused.value.hint
