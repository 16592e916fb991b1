"""A run's folder: stopped and resumed, in use, cut short, full."""

import dataclasses
import json
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from hpkit.corpus import load_corpus
from hpkit.finetune import checkpoints, finetune
from hpkit.recipe import Recipe

from .conftest import SMALL, refused, same, weights

pytestmark = pytest.mark.slow


# Stopped and resumed.


def wait_for(path: Path, process) -> None:
    end = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


def as_flags(recipe: Recipe) -> list[str]:
    return [
        f"--{name}={json.dumps(value).strip(chr(34))}"
        for name, value in dataclasses.asdict(recipe).items()
        if value is not None
    ]


@pytest.mark.parametrize(
    "changes",
    [
        dict(optim="adamw_8bit"),
        dict(optim="adamw_torch"),
        dict(optim="adamw_8bit", lora_r=64, lora_dropout=0.1),
        dict(optim="adamw_torch", lora_r=4, load_in_4bit=True),
    ],
)
def test_kill_9_and_resume_end_in_the_same_bits(
    changes, tiny_model, few_tunes, tmp_path, hpkit_command
):
    recipe = SMALL.replace(max_steps=60, save_steps=5, eval_steps=20, **changes)
    command = ["finetune", *as_flags(recipe), "--model", tiny_model, "--corpus", few_tunes]
    whole = hpkit_command(*command, "--out", tmp_path / "whole", threads=1)
    assert whole.returncode == 0, whole.stderr
    out = tmp_path / "killed"
    for moment, extra in ((10, command), (40, ["finetune", "--resume"])):
        process = hpkit_command(*extra, "--out", out, wait=False, threads=1)
        wait_for(out / f"checkpoint-{moment}" / "trainer_state.json", process)
        process.kill()
        process.communicate()
        assert not (out / "run.json").exists()
    last = hpkit_command("finetune", "--resume", "--out", out, "--json", threads=1)
    assert last.returncode == 0, last.stderr
    assert "resuming from checkpoint-" in last.stderr
    assert json.loads(last.stdout)["resumed_from"] >= 35
    assert same(weights(tmp_path / "whole"), weights(out))
    before, after = (
        json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "whole", out)
    )
    for name in (
        "eval_loss_before",
        "eval_loss_after",
        "bars_valid_before",
        "bars_valid_after",
        "updates",
        "tokens",
        "optimizer_state_bytes",
    ):
        assert before[name] == after[name], name
    assert [entry["step"] for entry in before["history"]] == [
        entry["step"] for entry in after["history"]
    ]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_a_checkpoint_and_says_how_to_go_on(
    signum, tiny_model, few_tunes, tmp_path, hpkit_command
):
    recipe = SMALL.replace(max_steps=2000, save_steps=1000, eval_strategy="no", logging_steps=1)
    out = tmp_path / "out"
    process = hpkit_command(
        "finetune",
        *as_flags(recipe),
        "--model",
        tiny_model,
        "--corpus",
        few_tunes,
        "--out",
        out,
        wait=False,
    )
    seen = ""
    while "0/2000" not in seen:  # the bar that is drawn when the training loop begins
        character = process.stderr.read(1)
        assert character, seen
        seen += character
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 128 + signum
    assert "stopping here, with a checkpoint" in stdout
    assert f"continue with: hpkit finetune --resume --out {out}" in stderr
    assert "Traceback" not in stderr
    (checkpoint,) = out.glob("checkpoint-*")
    assert checkpoints.checkpoint_fault(checkpoint) is None
    assert not (out / "run.json").exists()


@pytest.fixture
def unfinished(finished, tiny_model, few_tunes, tmp_path):
    """A copy of the finished run without its end, to spoil and to resume."""
    out = shutil.copytree(finished[0], tmp_path / "unfinished")
    (out / "run.json").unlink()
    shutil.rmtree(out / "model")
    return out


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
@pytest.mark.parametrize("cut", [True, False])
def test_a_checkpoint_cut_short_is_passed_over(name, cut, unfinished):
    file = unfinished / "checkpoint-12" / name
    if cut:
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    else:
        file.unlink()
    lines = []
    assert checkpoints.last_whole_checkpoint(unfinished, lines.append).name == "checkpoint-6"
    assert len(lines) == 1 and lines[0].startswith(f"checkpoint-12 was cut short ({name})")


def test_resuming_after_a_cut_checkpoint_and_after_the_last_update(
    unfinished, finished, tiny_model, few_tunes, tmp_path
):
    copy = shutil.copytree(unfinished, tmp_path / "copy")
    (copy / "checkpoint-12" / "optimizer.pt").write_bytes(b"PK")
    lines = []
    run = finetune(SMALL, tiny_model, few_tunes, copy, resume=True, log=lines.append)
    assert "resuming from checkpoint-6" in lines and run.resumed_from == 6
    assert run.eval_loss_before == finished[1].eval_loss_before
    # Killed between the last update and run.json: nothing is left to train, and the end is made up
    # for.
    again = finetune(SMALL, tiny_model, few_tunes, unfinished, resume=True, log=None)
    assert (again.resumed_from, again.updates, again.tokens_per_second) == (12, 12, None)
    assert again.optimizer_state_dtypes == finished[1].optimizer_state_dtypes
    assert same(weights(unfinished), weights(finished[0]))


#: What the first edition wrote of the request, beside the recipe; its first versions wrote less.
FIRST_EDITION = {
    "processes": 1,
    "throughput": {
        "attn_implementation": None,
        "use_liger_kernel": None,
        "torch_compile": None,
        "activation_checkpointing": None,
        "dataloader_num_workers": None,
    },
}


@pytest.mark.parametrize("rest", [FIRST_EDITION, {}])
def test_a_run_of_the_first_edition_goes_on(rest, unfinished, finished, tiny_model, few_tunes):
    before = json.loads((unfinished / "started.json").read_text())
    names = ("eval_loss_before", "bars_valid_before", "tunes_parsed_before")
    written = {"recipe": dataclasses.asdict(SMALL), "model": tiny_model, "corpus": few_tunes}
    written |= rest | {"corpus_fingerprint": before["corpus_fingerprint"]}
    written |= {name: before[name] for name in names}
    (unfinished / "started.json").write_text(json.dumps(written, indent=1))
    shutil.rmtree(unfinished / "checkpoint-12")
    run = finetune(SMALL, tiny_model, few_tunes, unfinished, resume=True, log=None)
    assert run.resumed_from == 6 and run.eval_loss_before == finished[1].eval_loss_before


@pytest.mark.parametrize("part", ["recipe", "throughput"])
def test_a_run_of_an_unknown_edition_is_refused(part, unfinished, tiny_model, few_tunes):
    written = json.loads((unfinished / "started.json").read_text())
    written[part]["of_another_time"] = 1
    (unfinished / "started.json").write_text(json.dumps(written))
    refused("nothing to resume", SMALL, tiny_model, few_tunes, unfinished, resume=True)


def test_killed_before_the_first_checkpoint(unfinished, tiny_model, few_tunes):
    for folder in unfinished.glob("checkpoint-*"):
        shutil.rmtree(folder)
    lines = []
    run = finetune(SMALL, tiny_model, few_tunes, unfinished, resume=True, log=lines.append)
    assert "no whole checkpoint: starting from the first update" in lines
    assert run.resumed_from is None and run.updates == 12


def test_a_folder_in_use(finished, tiny_model, few_tunes, tmp_path):
    out = finished[0]
    refused("is not empty", SMALL, tiny_model, few_tunes, out)
    refused("is finished", SMALL, tiny_model, few_tunes, out, resume=True)
    refused("nothing to resume", SMALL, tiny_model, few_tunes, tmp_path / "none", resume=True)
    for text in ("", "[]", '{"recipe": 1}'):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "started.json").write_text(text)
        refused("nothing to resume", SMALL, tiny_model, few_tunes, tmp_path / "other", resume=True)
    (tmp_path / "file").write_text("mine")
    refused("is a file", SMALL, tiny_model, few_tunes, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_resuming_something_else(unfinished, tiny_model, few_tunes, tmp_path):
    refused(
        "another recipe: .*learning_rate 0.001, now it is 0.01",
        SMALL.replace(learning_rate=0.01),
        tiny_model,
        few_tunes,
        unfinished,
        True,
    )
    refused("another model", SMALL, "starter", few_tunes, unfinished, True)
    refused("another corpus", SMALL, tiny_model, "aksak", unfinished, True)
    with open(few_tunes, "a+") as file:
        file.seek(0)
        before = file.read()
        file.write("\nX:99\nM:2/4\nL:1/8\nK:D\nfAdf|gfed|\n")
    try:
        refused("has changed since", SMALL, tiny_model, few_tunes, unfinished, True)
    finally:
        Path(few_tunes).write_text(before)


def test_resuming_with_another_text_to_evaluate_on(tiny_model, few_tunes, tmp_path, unfinished):
    refused("has none, now it is", SMALL, tiny_model, few_tunes, unfinished, True, eval_corpus="a")
    held = tmp_path / "held.abc"
    held.write_text("X:1\nM:2/4\nL:1/8\nK:D\nfAdf|gfed|\n")
    out = tmp_path / "out"
    request = checkpoints.Request(SMALL, tiny_model, few_tunes, eval_corpus=str(held))
    corpus = load_corpus(few_tunes, str(held))
    checkpoints.Started(
        request, corpus.fingerprint, eval_corpus_fingerprint=corpus.evaluation.fingerprint
    ).write(out)
    assert checkpoints.read_started(out).request == request
    texts = dict(eval_corpus=str(held))
    refused("another eval_corpus", SMALL, tiny_model, few_tunes, out, True)
    held.write_text("X:1\nM:2/4\nL:1/8\nK:D\nfAdf|gfeg|\n")
    refused("eval_corpus .* has changed", SMALL, tiny_model, few_tunes, out, True, **texts)
    held.write_text("X:1\nM:2/4\nL:1/8\nK:D\nfAdf|gfed|\n")
    short = dict(log=None, resume=True, eval_corpus=str(held))
    assert finetune(SMALL, tiny_model, few_tunes, out, **short).eval_corpus == str(held)


def test_a_folder_that_cannot_be_made(tiny_model, few_tunes, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused("cannot be written", SMALL, tiny_model, few_tunes, tmp_path / "file" / "out")


def test_no_room_at_the_start(tiny_model, few_tunes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000)
    )
    refused("no space left on the device", SMALL, tiny_model, few_tunes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_room_on_the_way(tiny_model, few_tunes, tmp_path):
    """The kernel refuses files over 100 kB, as it would on a full disk, when the first checkpoint
    is written.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        refused(
            "no space left on the device while writing",
            SMALL,
            tiny_model,
            few_tunes,
            tmp_path / "out",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "out" / "run.json").exists()
    run = finetune(SMALL, tiny_model, few_tunes, tmp_path / "out", resume=True, log=None)
    assert run.updates == 12
