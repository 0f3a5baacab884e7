from feinschliff.train.best import BestModel


def test_only_the_named_one_stays(tmp_path):
    best = BestModel(tmp_path / "best")
    for step in (2, 4, 10):
        best.path(step).mkdir(parents=True)
        (best.path(step) / "weights").write_text(str(step), encoding="utf-8")
    best.keep_only(4)
    assert [p.name for p in best.folder.iterdir()] == ["step-4"]
    best.copy(4, tmp_path / "model")
    assert (tmp_path / "model" / "weights").read_text(encoding="utf-8") == "4"
    best.keep_only(None)
    assert not best.folder.exists()
    best.keep_only(None)  # again, after a kill
