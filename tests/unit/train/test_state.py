import pytest
import torch

from feinschliff.train.state import Cut, Saved, StateFolder, write_whole
from feinschliff.train.stopping import Watch


def trained(steps: int):
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.randn(3, 4))
    optimizer = torch.optim.AdamW([p], lr=0.1, fused=True)
    for _ in range(steps):
        (p.square().sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return p, optimizer


def test_what_is_restored_goes_on_to_the_same_weights(tmp_path):
    states = StateFolder(tmp_path)
    p, optimizer = trained(3)
    watch = Watch(best_step=2, best_loss=0.25, mark=0.3, n_since_mark=1)
    saved = Saved(3, "fp32", 17, 1.5, Cut(700, recompute=True), watch)
    states.save(saved, {"p": p}, optimizer)
    assert states.peek() == saved
    q, other = trained(0)
    states.restore({"p": q}, other)
    for x, o in ((p, optimizer), (q, other)):
        x.square().sum().backward()
        o.step()
    assert torch.equal(p, q)


def test_the_newest_is_kept(tmp_path):
    states = StateFolder(tmp_path)
    p, optimizer = trained(1)
    for step in (8, 9, 10, 11):
        states.save(Saved(step, "fp32", 0, 0.0), {"p": p}, optimizer)
    assert [p.name for p in tmp_path.iterdir()] == ["step-11.pt"]


def test_nothing_saved(tmp_path):
    states = StateFolder(tmp_path / "state")
    assert states.peek() is None
    p, optimizer = trained(0)
    before = p.clone()
    states.restore({"p": p}, optimizer)
    assert torch.equal(p, before)


def test_write_whole_leaves_the_old_one_where_writing_breaks(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda partial: partial.write_text("old", encoding="utf-8"))

    def breaks(partial):
        partial.write_text("ne", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, breaks)
    assert path.read_text(encoding="utf-8") == "old"
    write_whole(path, lambda partial: partial.write_text("new", encoding="utf-8"))
    assert path.read_text(encoding="utf-8") == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_write_whole_replaces_a_folder(tmp_path):
    path = tmp_path / "model"
    for text in ("one", "two"):

        def fill(partial, text=text):
            partial.mkdir()
            (partial / text).touch()

        write_whole(path, fill)
    assert [p.name for p in path.iterdir()] == ["two"]
