import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_study import feinschliff, make_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_encoder: Path):
    """A study that ran undisturbed; copy its folder before changing anything in it."""
    folder = tmp_path_factory.mktemp("finished")
    file = make_study(folder, tiny_model, tiny_encoder)
    done = feinschliff("study", "run", file, "--out", folder / "out", "--yes", cwd=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, file=file, out=folder / "out", done=done, report=report)
