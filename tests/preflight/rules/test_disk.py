"""The rule about the disk, against the files of a real training."""

from types import SimpleNamespace

import pytest

from hpkit.preflight import Surroundings, Written

from ..support import LONG, Case, Rows, found, llama, train

#: By rule; tests/preflight/rules/test_cases.py tries them.
CASES = {
    "disk-filled": Case(
        about=LONG.replace(save_steps=10),
        known=dict(examples=1000),
        silent=LONG.replace(save_steps=10, save_total_limit=3),
        known_of_silent=dict(examples=1000),
    ),
}


@pytest.mark.parametrize("around", [dict(adapter="LoraConfig"), dict(named_checkpoint="out/c-3")])
def test_small_checkpoints_and_one_that_is_loaded_may_stay(around):
    run = dict(max_steps=2000, save_steps=50)
    assert "disk-filled" in found(run, written=Written())
    assert "disk-filled" not in found(run, written=Written(around=Surroundings(**around)))


@pytest.mark.slow
def test_checkpoints_fill_the_disk_as_foretold(tmp_path, monkeypatch):
    model = llama()
    run = dict(max_steps=12, save_strategy="steps", save_steps=1, optim="adamw_torch")
    fired = found(run, model=model)["disk-filled"]
    train(tmp_path, model, Rows(8), **run)
    folders = list(tmp_path.glob("checkpoint-*"))
    assert len(folders) == fired.evidence["checkpoints"] == 12
    measured = 0
    for folder in folders:
        for file in ("model.safetensors", "optimizer.pt"):
            measured += (folder / file).stat().st_size
    assert measured == pytest.approx(fired.evidence["bytes"], rel=0.15)
    usage = SimpleNamespace(free=measured // 2)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert found(run, model=model)["disk-filled"].severity == "error"
    # Nobody knows the disk of another machine.
    assert found(run, model=model, device="t4")["disk-filled"].severity == "warning"
