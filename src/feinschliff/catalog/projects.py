"""projects.toml: what a project of the service may spend in a month."""
import tomllib
from pathlib import Path

from pydantic import Field, ValidationError

from feinschliff.catalog.regions import Quota
from feinschliff.core.chat import Wire
from feinschliff.core.errors import BadStudy


class Project(Wire):
    quota: Quota = Quota()


class Projects(Wire):
    """A table `[projects.NAME]` each, by the project's name or id; those that are not there have no limit."""

    projects: dict[str, Project] = Field(default_factory=dict)

    def quota(self, *names: str) -> Quota:
        """Of the project that goes by these names."""
        return next((self.projects[name].quota for name in names if name in self.projects), Quota())


def load_projects(file: Path | None = None) -> Projects:
    """Raises BadStudy where the file is malformed."""
    if file is None:
        return Projects()
    try:
        return Projects.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise BadStudy(f"{file} is not a list of projects: {error}", hint="docs/catalogue.md shows the form.") from error
