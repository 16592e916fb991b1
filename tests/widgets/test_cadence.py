"""CadenceExplorer: every control moved, and what is drawn and said held against accounting; a checkpoint against its files."""

import pytest
import torch
from transformers import GPT2Config

from hpkit.accounting import account
from hpkit.finetune import trained
from hpkit.formatting import shown_bytes
from hpkit.memory import checkpoint_bytes
from hpkit.recipe import NOTES, STARTER
from hpkit.widgets import CadenceExplorer, Interactive
from hpkit.widgets.cadence import ROWS


@pytest.fixture(autouse=True)
def errors_are_raised(monkeypatch):
    monkeypatch.setattr(Interactive, "raise_errors", True)


def check(explorer) -> None:
    at = {name: control.value for name, control in explorer.controls.items()}
    own = {
        name: at[name] or None
        for name in ("logging_steps", "eval_steps", "save_steps", "save_total_limit")
    }
    counts = account(NOTES.replace(**own), at["examples"])
    for row, field in ROWS.items():
        drawn = list(explorer._figure.rows[row].get_xdata())
        expected = getattr(counts, field)
        assert drawn == list(expected[:: len(expected) // 1500 + 1])
        assert f"{row}: {len(expected):,}" in explorer.picture.alt
    left = (
        len(counts.save_at)
        if not at["save_total_limit"]
        else min(len(counts.save_at), at["save_total_limit"])
    )
    assert (
        f"{left} checkpoint{'s' * (left != 1)} of" in explorer.summary
        and shown_bytes(explorer.disk) in explorer.summary
    )
    rules = {finding.rule for finding in explorer.findings}
    assert ("no-training-loss" in rules) == (at["logging_steps"] > counts.updates)
    follows = at["eval_steps"] or at["logging_steps"]
    assert ("best-model-mismatch" in rules) == (
        at["load_best_model_at_end"] and at["save_steps"] % follows != 0
    )
    assert ("preflight: nothing found" in explorer.summary) == (not rules) and explorer.error == ""


@pytest.mark.parametrize(
    "name",
    [
        "examples",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_total_limit",
        "load_best_model_at_end",
    ],
)
def test_it_follows_every_control(name):
    explorer = CadenceExplorer()
    explorer.save_steps = 50
    check(explorer)
    control, seen = explorer.controls[name], set()
    values = (
        [value for _, value in control.options][::7]
        if hasattr(control, "options")
        else [True, False]
    )
    for value in values:
        explorer.set(**{name: value, "model": "135M"})
        check(explorer)
        seen.add((explorer.picture.alt, explorer.summary))
    assert len(seen) > 1


def test_a_larger_model_needs_more_disk():
    explorer, sizes = CadenceExplorer(), []
    for model in explorer.controls["model"].options:
        explorer.model = model
        sizes.append(explorer.disk)
    assert sizes == sorted(set(sizes))


@pytest.mark.slow
def test_a_checkpoint_is_as_large_as_its_files(tmp_path):
    recipe = STARTER.replace(max_steps=1, warmup_steps=0, max_seq_length=32)
    trainer = trained(recipe)
    trainer.save_model(str(tmp_path))
    torch.save(trainer.optimizer.state_dict(), tmp_path / "optimizer.pt")
    files = sum((tmp_path / name).stat().st_size for name in ("model.safetensors", "optimizer.pt"))
    assert checkpoint_bytes(trainer.model, recipe) == pytest.approx(files, rel=0.01)
    # AdamW in 32 bits: 4 bytes for the weight, 8 for its averages, 4 for each tensor's step counter.
    gpt2 = checkpoint_bytes(GPT2Config(), NOTES.replace(optim="adamw_torch"))
    assert gpt2 == 12 * 124_439_808 + 4 * 148
