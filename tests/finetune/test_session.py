"""Whole runs on a tiny model: what they leave, what they say, what they refuse."""

import dataclasses
import json

import pytest

from hpkit.corpus import load_corpus
from hpkit.corpus.music import judge, parse
from hpkit.finetune import Run, finetune
from hpkit.finetune.samples import SAMPLED_TUNES
from hpkit.finetune.session import let_it_be_heard
from hpkit.recipe import NOTES

from .conftest import SMALL, refused

pytestmark = pytest.mark.slow


def test_what_a_run_leaves(finished):
    out, run, _ = finished
    names = {file.name for file in out.iterdir()}
    assert {
        "run.json",
        "started.json",
        "loss.png",
        "model",
        "before.abc",
        "after.abc",
        "checkpoint-6",
        "checkpoint-12",
    } <= names
    assert not [file for file in out.rglob("*") if file.name.endswith(".part")]
    endings = {file.suffix for file in (out / "model").iterdir()}
    assert endings == {".json", ".safetensors"}  # no pickle
    written = json.loads((out / "run.json").read_text())
    promised = """recipe capability versions parameters updates history eval_loss_before
    eval_loss_after optimizer_state_bytes optimizer_state_dtypes tokens_per_second
    peak_memory_bytes bars_valid_before bars_valid_after""".split()
    assert set(promised) <= written.keys()
    assert Run.load(out) == run
    assert written["recipe"] == dataclasses.asdict(SMALL)
    assert written["updates"] == 12 and written["tokens"] == 12 * 2 * 32
    steps = [(entry["step"], entry["loss"]) for entry in written["history"] if "loss" in entry]
    assert [step for step, _ in steps] == [3, 6, 9, 12]
    assert [entry["step"] for entry in written["history"] if "eval_loss" in entry] == [0, 6, 12]
    assert all(
        "learning_rate" in entry and "grad_norm" in entry
        for entry in written["history"]
        if "loss" in entry
    )
    assert written["eval_loss_after"] < written["eval_loss_before"]
    assert written["capability"]["bf16"] is True


def test_evaluating_on_the_documents_held_out_is_the_same_run(
    finished, tiny_model, few_tunes, tmp_path
):
    """Of the corpus cut in two files, one to train on and one to evaluate on."""
    for side, documents in zip(("train", "held"), load_corpus(few_tunes).split()):
        (tmp_path / f"{side}.abc").write_text("\n\n".join(documents))
    texts = [str(tmp_path / f"{side}.abc") for side in ("train", "held")]
    lines = []
    run = finetune(
        SMALL, tiny_model, texts[0], tmp_path / "out", log=lines.append, eval_corpus=texts[1]
    )
    whole = finished[1]
    assert (run.eval_corpus, whole.eval_corpus) == (texts[1], None)
    for name in "history evaluation_fingerprint tokens bars_valid_after weights_norm".split():
        assert getattr(run, name) == getattr(whole, name), name
    held_out = len(load_corpus(few_tunes).split()[1])
    assert f"evaluation on all of {texts[1]}: {held_out} documents" in lines
    assert any(f"{held_out} of them held out to evaluate on" in line for line in finished[2])
    assert not any("trained on as well" in line for line in [*lines, *finished[2]])


def test_documents_both_trained_and_evaluated_on_are_told(tiny_model, few_tunes, tmp_path):
    lines = []
    short = SMALL.replace(max_steps=1, eval_strategy="no", save_strategy="no")
    out = tmp_path / "out"
    finetune(short, tiny_model, few_tunes, out, log=lines.append, eval_corpus=few_tunes)
    (line,) = [line for line in lines if "trained on as well" in line]
    assert "40 of these 40" in line
    assert json.loads((out / "run.json").read_text())["eval_corpus"] == few_tunes


def test_the_prompts_of_the_samples_are_those_evaluated_on(tiny_model, tmp_path):
    for name, letters in (("train", "ABCDEFG"), ("held", "abcdefg")):
        rows = [{"prompt": letter * 3, "completion": "GA"} for letter in letters]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    texts = [str(tmp_path / f"{name}.jsonl") for name in ("train", "held")]
    short = SMALL.replace(max_steps=1, eval_strategy="no", save_strategy="no")
    finetune(short, tiny_model, texts[0], tmp_path / "out", log=None, eval_corpus=texts[1])
    for when in ("before", "after"):
        one, other = (tmp_path / "out" / f"{when}.txt").read_text().split("\n\n", 1)
        assert one.startswith("aaa[") and other.startswith("bbb[")


def test_the_samples_carry_their_verdicts(finished):
    out, run, _ = finished
    for when in ("before", "after"):
        book = (out / f"{when}.abc").read_text()
        assert book.count("X:") == SAMPLED_TUNES
        assert book.count(f" {when} the run: parses; ") == getattr(run, f"tunes_parsed_{when}")


def test_a_run_says_what_it_does(finished):
    _, _, lines = finished
    text = "\n".join(lines)
    for part in (
        "precision: bf16 -> bf16",
        "optimizer: adamw_8bit -> adamw_8bit",
        "warmup ends at update 2 of 12",
        "12 in all",
    ):
        assert part in text
    for part in (
        "evaluation at update 6, 12",
        "evaluation loss before",
        "evaluation loss after",
        "bars add up",
    ):
        assert part in text


def test_sound_and_roll_of_the_first_sample_that_parses(tmp_path):
    texts = ["M:6/8\nK:G\n", "M:6/8\nK:G\nABcdef|gfedcB|A3G3|"]
    lines = []
    let_it_be_heard(texts, [judge(text) for text in texts], tmp_path, lines.append)
    assert (tmp_path / "after.wav").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "after.png").read_bytes()[:4] == b"\x89PNG"
    assert "sample 2, the first that parses: 14 notes in 3 bars of 6/8 in G" in lines[0]
    assert len(parse(texts[1]).elements) == 17


def test_the_notes_recipe_logs_no_training_loss(tiny_model, few_tunes, tmp_path):
    run = finetune(
        NOTES.replace(max_seq_length=32), tiny_model, few_tunes, tmp_path / "out", log=None
    )
    assert not [entry for entry in run.history if "loss" in entry]
    assert (tmp_path / "out" / "loss.png").exists()


def test_what_does_not_fit(tiny_model, few_tunes, tmp_path):
    out = tmp_path / "out"
    refused(
        "at most 64 tokens, the model's context, got 65",
        SMALL.replace(max_seq_length=65),
        tiny_model,
        few_tunes,
        out,
    )
    (tmp_path / "one.abc").write_text("X:1\nM:6/8\nK:G\nABc|\n")
    refused("too small", SMALL, tiny_model, str(tmp_path / "one.abc"), out)
    refused("fp16 on a CPU", SMALL.replace(bf16=False, fp16=True), tiny_model, few_tunes, out)
    assert not out.exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(lr_scheduler_type="cosine_with_min_lr"), "min_lr"),
        (dict(lr_scheduler_type="cosine", lr_scheduler_kwargs={"cycles": 2}), "cycles"),
        (dict(lr_scheduler_type="cosine", lr_scheduler_kwargs={"num_cycles": "two"}), "cannot run"),
        (dict(lr_scheduler_type="warmup_stable_decay"), "'num_decay_steps' is missing"),
        (dict(lr_scheduler_type="polynomial", learning_rate=1e-8), "lr_end"),
        (dict(lr_scheduler_type="polynomial", warmup_steps=12), "division by zero"),
        (dict(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="no"), "refuses the recipe"),
    ],
)
def test_schedules_that_cannot_run(changes, message, tiny_model, few_tunes, tmp_path):
    refused(message, SMALL.replace(**changes), tiny_model, few_tunes, tmp_path / "out")
    assert not (tmp_path / "out").exists()
