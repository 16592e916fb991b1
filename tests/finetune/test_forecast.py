"""A dry run: what it says the run will do, held against the run; and that it leaves nothing."""

import dataclasses
import json
import shutil
import tempfile

import pytest

from hpkit.__main__ import main
from hpkit.capability import probe
from hpkit.errors import BadInput
from hpkit.finetune import dry_run, train
from hpkit.finetune.samples import SAMPLED_TOKENS
from hpkit.recipe import Recipe

from .conftest import SMALL

pytestmark = pytest.mark.slow

#: 204 blocks of 32 tokens: 51 updates of four an epoch, or 13 of sixteen, the last of them short.
EPOCHS = Recipe(per_device_train_batch_size=4, max_seq_length=32, num_train_epochs=2)


@pytest.fixture(scope="module")
def foreseen(tiny_model, few_tunes, tmp_path_factory):
    """(Forecast, lines, folder that was named) of the run of the fixture `finished`."""
    out = tmp_path_factory.mktemp("dry") / "out"
    lines = []
    return dry_run(SMALL, tiny_model, few_tunes, out, log=lines.append), lines, out


def counts(run) -> tuple:
    """What must be the same in a forecast and in its run."""
    return run.updates, run.tokens, run.optimizer_state_bytes


def test_a_dry_run_says_what_the_run_says_before_its_first_update(foreseen, finished):
    _, lines, _ = foreseen
    said = finished[2]
    first = next(number for number, line in enumerate(said) if line.startswith("evaluation loss"))
    assert lines == said[:first]


def test_updates_tokens_and_states_are_those_of_the_run(foreseen, finished):
    forecast, _, _ = foreseen
    run = finished[1]
    assert counts(forecast) == counts(run)
    held = {dtype: entry["bytes"] for dtype, entry in run.optimizer_state_dtypes.items()}
    assert forecast.optimizer_state_dtypes == held
    # As often as the run has written an evaluation loss, and once more: that of the last update
    # is measured by the loop and again after it.
    assert forecast.evaluations == sum("eval_loss" in entry for entry in run.history) + 1


@pytest.mark.parametrize(
    "changes",
    [
        dict(optim="adamw_torch", gradient_accumulation_steps=4),
        dict(optim="adafactor", num_train_epochs=0.3),
        dict(optim="adamw_torch_fused", dtype="bfloat16", max_steps=3),
        dict(optim="sgd", max_steps=1, lr_scheduler_type="cosine", warmup_steps=1),
    ],
    ids=lambda changes: changes["optim"],
)
def test_counts_of_other_recipes(changes, tiny_model, few_tunes, tmp_path):
    recipe = EPOCHS.replace(**changes)
    said = dry_run(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert counts(said) == counts(train(recipe, tiny_model, few_tunes))


def test_an_optimizer_whose_states_nobody_predicts(tiny_model, few_tunes, tmp_path):
    recipe = EPOCHS.replace(optim="rmsprop", max_steps=2)
    said = dry_run(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert said.optimizer_state_bytes is None and said.timing.total > 0
    assert "not predicted" in "\n".join(said.lines())


def test_the_parts_of_the_time_are_the_whole(foreseen):
    timing = foreseen[0].timing
    parts = (timing.training, timing.evaluations, timing.sampling, timing.saving)
    assert min(parts) > 0 and timing.total == pytest.approx(sum(parts))
    # Of a run of 12 updates all are timed: nothing is left to scale up.
    assert "first 12 updates" in timing.measured


@pytest.mark.parametrize("text", ["text", "prompts"])
def test_samples_of_every_kind_of_corpus_are_timed(text, tiny_model, tmp_path):
    rows = {
        "text": [{"text": "ABcd" * 9 + letter} for letter in "ABCDEFG"],
        "prompts": [{"prompt": letter, "completion": "ABcd" * 4} for letter in "ABCDEFG"],
    }
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows[text])))
    said = dry_run(EPOCHS.replace(max_steps=2), tiny_model, str(file), tmp_path / "out", log=None)
    assert said.timing.sampling > 0
    # The context of 64 leaves room for 63, which are fewer than a text may have.
    assert "of 63 tokens of each sample" in said.timing.measured and SAMPLED_TOKENS > 63


def test_memory_against_the_run(few_tunes, tmp_path, hpkit_command, record_property):
    """Within the half that hpkit.memory allows a process whose allocator keeps freed blocks.

    Of the starter, for beside a tiny model Python and its libraries are nearly everything.
    """
    flags = ["--corpus", few_tunes, "--max_steps", 4, "--warmup_steps", 1]
    command = ["finetune", *flags, "--save_strategy", "no", "--json", "--out", tmp_path / "out"]
    said = hpkit_command(*command, "--dry-run")
    assert said.returncode == 0, said.stderr
    ran = hpkit_command(*command)
    assert ran.returncode == 0, ran.stderr
    forecast = json.loads(said.stdout)
    peak = json.loads(ran.stdout)["peak_memory_bytes"]
    for name, within in (("peak_memory_bytes", 0.5), ("measured_memory_bytes", 0.3)):
        ratio = forecast[name] / peak
        record_property(name, ratio)
        print(f"{name}: {forecast[name] / 1e6:.0f} MB, the run {peak / 1e6:.0f} MB: {ratio:.2f}")
        assert abs(ratio - 1) <= within, name


def test_nothing_is_written(tiny_model, few_tunes, tmp_path, monkeypatch):
    for name in ("work", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    dry_run(SMALL, tiny_model, few_tunes, "runs/out", log=None)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["tmp", "work"]


def test_a_run_that_does_not_fit_is_not_timed(tiny_model, few_tunes, tmp_path, monkeypatch):
    full = dataclasses.replace(probe(), memory_free=1000)
    monkeypatch.setattr("hpkit.finetune.forecast.probe", lambda **options: full)
    monkeypatch.setattr("hpkit.finetune.forecast.time_parts", None)  # a call would fail
    said = dry_run(SMALL, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert said.timing is None and said.measured_memory_bytes is None
    assert (
        said.lines()[-1].startswith("time: not measured") and "1.0 kB are free" in said.lines()[-1]
    )
    assert json.loads(said.to_json())["timing"] is None


def refused(message: str, capsys, *flags) -> None:
    """`hpkit finetune --dry-run` says one line and ends with status 2."""
    assert main(["finetune", "--dry-run", *map(str, flags)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error


def test_out_is_checked_as_for_a_run(tiny_model, few_tunes, tmp_path, capsys, monkeypatch):
    tiny = ["--model", tiny_model, "--corpus", few_tunes, "--max_seq_length", 32, "--out"]
    (tmp_path / "file").write_text("mine")
    refused("is not empty", capsys, *tiny, tmp_path)
    refused("is a file", capsys, *tiny, tmp_path / "file")
    refused("cannot be written", capsys, *tiny, tmp_path / "file" / "out")
    full = shutil._ntuple_diskusage(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    refused("no space left", capsys, *tiny, tmp_path / "out")


def test_what_has_no_forecast(tiny_model, few_tunes, finished, tmp_path, capsys, monkeypatch):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(finished[0] / "started.json", unfinished)
    refused("--dry-run: expected a new run", capsys, "--resume", "--out", unfinished)
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match="expected one process, and torchrun started 2"):
        dry_run(SMALL, tiny_model, few_tunes, tmp_path / "out")


def test_json_of_a_dry_run_stands_alone(tiny_model, few_tunes, tmp_path, capsys):
    flags = ["--model", tiny_model, "--corpus", few_tunes, "--max_steps", "2"]
    flags += ["--max_seq_length", "32", "--json"]
    out = tmp_path / "out"
    assert (
        main(["finetune", "--dry-run", "--eval_corpus", few_tunes, *flags, "--out", str(out)]) == 0
    )
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert said["updates"] == 2 and said["timing"]["total"] > 0
    assert said["disk"]["left"] == said["disk"]["model"] + said["disk"]["checkpoint"]
    assert "trained on as well" in captured.err and "2 updates on" in captured.err
    assert not out.exists()
