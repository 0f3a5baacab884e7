"""The sample report is made once."""
import pytest
from sample import sample


@pytest.fixture(scope="session")
def study_result():
    return sample()


@pytest.fixture
def report(study_result):
    return study_result[0]


@pytest.fixture
def answers(study_result):
    return study_result[1]
