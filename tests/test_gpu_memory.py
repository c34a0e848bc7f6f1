"""No lesson's `gpu` sizes exceed a T4; the count against arithmetic, against torch's own tracker, as sizes change."""

import re
import shutil

import pytest
import torch
from torch import nn

ROWS = 64


@pytest.fixture()
def program(script):
    return script("data_scripts/gpu_memory.py")


class Small(nn.Module):
    """A convolution, a normalisation, dropout and a linear map of a batch's images."""

    def __init__(self):
        super().__init__()
        middle = [nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.GELU(), nn.Dropout(0.1), nn.Flatten()]
        self.layers = nn.Sequential(*middle, nn.Linear(16 * 64, 8))

    def forward(self, batch):
        return self.layers(batch["images"])


def squared(out, batch):
    return out.float().square().mean()


def rows_of(text):
    """Lesson -> the row of a table, as a list of its cells."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \d\d \| ", line)]
    return {row[0]: row for row in rows if row[-1].endswith(" %")}


def test_every_lesson_fits_into_what_a_t4_gives(program, capsys, root):
    """And TEACHING.md says the same, up to what releases of torch and transformers differ in."""
    assert program.main([]) == 0
    said = capsys.readouterr().out
    assert "counted, not yet run on a GPU" in said
    lessons = sorted(path.name[:2] for path in program.SOURCES.glob("[0-9][0-9]_*.py"))
    rows, told = rows_of(said), rows_of((root / "TEACHING.md").read_text(encoding="utf-8"))
    idle = set(re.search(r"Nothing of (.*) reaches the card", said).group(1).split(", "))
    assert rows.keys() == told.keys() == set(lessons) - idle == program.CASES.keys()
    taken = {number: float(row[-2]) for number, row in rows.items()}
    assert 8 < taken["06"] < 12 and 0.1 < taken["02"] < 1 and 0.2 < taken["03"] < 1
    for number, row in told.items():
        assert float(row[-2]) == pytest.approx(taken[number], rel=0.05, abs=0.02), f"TEACHING.md, {number}: paste anew"


def test_a_changed_size_changes_the_count(program, tmp_path, monkeypatch, capsys):
    master = next(program.SOURCES.glob("02_*.py"))
    text = master.read_text(encoding="utf-8")
    before = program.counts("02")[0].peak
    assert "batch_size=(64, 128, 256)" in text
    (tmp_path / master.name).write_text(text.replace("batch_size=(64, 128, 256)", "batch_size=(64, 128, 512)"))
    monkeypatch.setattr(program, "SOURCES", tmp_path)
    assert program.counts("02")[0].peak == pytest.approx(2 * before, rel=0.15)
    monkeypatch.setattr(program, "ALLOWED", 0.2e9)
    assert program.main([]) == 1
    assert "02: a step with 512 scenes takes 0.3 GB; a lesson may take 0.2 GB" in capsys.readouterr().err


def test_what_it_does_not_know_is_an_error(program, tmp_path, monkeypatch, root):
    shutil.copy(root / "tests" / "lessons" / "98_mini.py", tmp_path)
    monkeypatch.setattr(program, "SOURCES", tmp_path)
    assert program.counts("98") == []
    mini = tmp_path / "98_mini.py"
    text = mini.read_text()
    mini.write_text(text + "\n# %%\ntraining.fit(model, [], loss, plan)\n")
    with pytest.raises(ValueError, match="98_mini.py puts something on the GPU, and gpu_memory.py does not know what"):
        program.counts("98")
    with pytest.raises(ValueError, match="98_mini.py no longer defines tower"):
        program.Lesson("98").define("tower")
    mini.write_text(text.replace("session.choose", "session.chose"))
    with pytest.raises(ValueError, match="has no session.choose"):
        program.counts("98")
    with pytest.raises(SystemExit):
        program.main(["55"])


def test_the_parts_are_those_of_arithmetic(program):
    model, batch = Small(), {"images": torch.rand(ROWS, 3, 8, 8)}
    found = program.count("a step", model, batch, squared, others=1_000, half=False)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert (found.parameters, found.gradients, found.moments) == (4 * numbers, 4 * numbers, 8 * numbers)
    assert (found.batch, found.others) == (4 * ROWS * 3 * 64, 1_000)
    images = 4 * ROWS * 16 * 64  # bytes of one map (B,16,8,8)
    assert 3 * images < found.activations < 8 * images  # norm, gelu, dropout and its mask keep one each
    half = program.count("a step", model, batch, squared, half=True)
    assert half.peak < found.peak
    still = program.count("encoding", model, batch, None, half=False)
    assert (still.gradients, still.moments) == (0, 0) and still.activations < 3.1 * images
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in model.parameters())  # untouched
    assert model.training and not isinstance(model.layers[0].weight, program.FakeTensorMode)


def test_it_counts_what_torchs_own_tracker_counts(program, monkeypatch):
    """Over a first step on real tensors; that tracker rounds each up to 512 bytes, as a GPU's allocator does."""
    tracker = pytest.importorskip("torch.distributed._tools.mem_tracker").MemTracker
    model, images = Small(), torch.rand(ROWS, 3, 8, 8)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    with tracker() as theirs:
        theirs.track_external(model, optimizer, images)
        squared(model({"images": images}), None).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
    monkeypatch.setattr(program, "STEPS", 1)
    peak = theirs.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    ours = program.count("a step", model, {"images": images}, squared, half=False).peak
    assert ours == pytest.approx(peak, rel=0.02)
