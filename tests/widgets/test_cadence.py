"""CadenceExplorer against accounting, every control moved; a checkpoint against its files."""

import pytest
import torch
from transformers import GPT2Config

from hpkit.accounting import account
from hpkit.finetune import trained
from hpkit.formatting import shown_bytes
from hpkit.memory import checkpoint_bytes
from hpkit.recipe import NOTES, STARTER
from hpkit.widgets import CadenceExplorer
from hpkit.widgets.cadence import ROWS


def check_cadence(explorer) -> None:
    """What is drawn and said, against account and what the rules ask."""
    at = {name: control.value for name, control in explorer.controls.items()}
    recipe = NOTES.replace(
        logging_steps=at["logging_steps"],
        eval_steps=at["eval_steps"] or None,
        save_steps=at["save_steps"],
        save_total_limit=at["save_total_limit"] or None,
    )
    counts = account(recipe, at["examples"])
    for row, field in ROWS.items():
        drawn = list(explorer._figure.rows[row].get_xdata())
        expected = getattr(counts, field)
        assert drawn == list(expected[:: len(expected) // 1500 + 1])  # no more than pixels
        assert f"{row}: {len(expected):,}" in explorer.picture.alt
    kept = len(counts.save_at)
    if at["save_total_limit"]:
        kept = min(kept, at["save_total_limit"])
    noun = "checkpoint" if kept == 1 else "checkpoints"
    assert f"{kept} {noun} of" in explorer.summary
    assert shown_bytes(explorer.disk) in explorer.summary
    rules = {finding.rule for finding in explorer.findings}
    assert ("no-training-loss" in rules) == (at["logging_steps"] > counts.updates)
    follows = at["eval_steps"] or at["logging_steps"]
    mismatch = at["load_best_model_at_end"] and at["save_steps"] % follows != 0
    assert ("best-model-mismatch" in rules) == mismatch
    assert ("preflight: nothing found" in explorer.summary) == (not rules)
    assert explorer.error == ""


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
    check_cadence(explorer)
    control = explorer.controls[name]
    values = [True, False]
    if hasattr(control, "options"):
        values = [value for _, value in control.options][::7]
    seen = set()
    for value in values:
        explorer.set(**{name: value, "model": "135M"})
        check_cadence(explorer)
        seen.add((explorer.picture.alt, explorer.summary))
    assert len(seen) > 1


def test_a_larger_model_needs_more_disk():
    explorer = CadenceExplorer()
    sizes = []
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
    # AdamW in 32 bits: 4 bytes for the weight, 8 for its averages, and 4 for each tensor's step
    # counter.
    gpt2 = checkpoint_bytes(GPT2Config(), NOTES.replace(optim="adamw_torch"))
    assert gpt2 == 12 * 124_439_808 + 4 * 148
