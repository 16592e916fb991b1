"""Whole runs on a tiny model: what they leave, that they repeat, that they survive being stopped."""

import dataclasses
import errno
import json
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hpkit.corpus.music import judge, parse
from hpkit.errors import BadInput
from hpkit.finetune import WHOLE, Run, Yardstick, checkpoints, finetune, train
from hpkit.finetune import training as module
from hpkit.finetune.training import SHORT
from hpkit.recipe import NOTES, Recipe

SMALL = Recipe(
    per_device_train_batch_size=2,
    max_seq_length=32,
    max_steps=12,
    learning_rate=1e-3,
    warmup_steps=2,
    optim="adamw_8bit",
    bf16=True,
    logging_steps=3,
    eval_strategy="steps",
    eval_steps=6,
    save_steps=6,
    save_total_limit=2,
)

pytestmark = pytest.mark.slow


def weights(out) -> dict[str, torch.Tensor]:
    return load_file(Path(out) / "model" / "model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(tiny_model, few_tunes, tmp_path_factory):
    """(folder, Run, lines) of one small run."""
    out = tmp_path_factory.mktemp("runs") / "one"
    lines = []
    run = finetune(SMALL, tiny_model, few_tunes, out, log=lines.append)
    return out, run, lines


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
    assert {file.suffix for file in (out / "model").iterdir()} == {
        ".json",
        ".safetensors",
    }  # no pickle
    written = json.loads((out / "run.json").read_text())
    promised = """recipe capability versions parameters updates history eval_loss_before eval_loss_after optimizer_state_bytes
    optimizer_state_dtypes tokens_per_second peak_memory_bytes bars_valid_before bars_valid_after""".split()
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


def test_the_model_left_loads_and_has_the_loss_written(finished, few_tunes):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hpkit.corpus import encode, load_corpus, pack

    out, run, _ = finished
    model = AutoModelForCausalLM.from_pretrained(out / "model", use_cache=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    blocks = pack(encode(load_corpus(few_tunes), tokenizer)[1], 32)
    losses = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(blocks), 2):
            batch = {
                name: torch.tensor([block[name] for block in blocks[start : start + 2]])
                for name in blocks[0]
            }
            losses += [model(**batch).loss.item()] * len(batch["labels"])
    assert sum(losses) / len(losses) == pytest.approx(run.eval_loss_after, abs=2e-3)


def test_the_optimizer_state_is_uint8_because_bitsandbytes_made_it_so(finished):
    out, run, _ = finished
    state = torch.load(out / "checkpoint-12" / "optimizer.pt", weights_only=True)["state"]
    # bitsandbytes packs what is quantized into a dict of its own when it saves.
    packed = [
        tensor
        for entry in state.values()
        for tensor in entry.get("__bnb_optimizer_quant_state__", {}).values()
    ]
    counted = sum(tensor.numel() for tensor in packed if tensor.dtype == torch.uint8)
    large = sum(
        tensor.numel()
        for name, tensor in weights(out).items()
        if tensor.numel() >= 4096 and "embed" not in name
    )
    assert (
        run.optimizer_state_dtypes["uint8"]["bytes"] == counted == 2 * large
    )  # two averages of one byte each
    assert run.optimizer_state_bytes == sum(
        entry["bytes"] for entry in run.optimizer_state_dtypes.values()
    )


def test_the_samples_carry_their_verdicts(finished):
    out, run, _ = finished
    for when in ("before", "after"):
        book = (out / f"{when}.abc").read_text()
        assert book.count("X:") == module.SAMPLED_TUNES
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
    module._let_it_be_heard(texts, [judge(text) for text in texts], tmp_path, lines.append)
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


def test_bf16_weights_where_the_recipe_says_so(tiny_model, few_tunes, tmp_path):
    recipe = SMALL.replace(dtype="bfloat16", optim="adamw_torch", max_steps=2)
    run = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert run.optimizer_state_dtypes.keys() == {
        "bfloat16",
        "float32",
    }  # the averages; the step counters
    assert {tensor.dtype for tensor in weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_the_same_recipe_twice_gives_the_same_weights(tiny_model, few_tunes, tmp_path, one_thread):
    recipe = SMALL.replace(max_steps=6)
    runs = [finetune(recipe, tiny_model, few_tunes, tmp_path / name, log=None) for name in "ab"]
    other = finetune(recipe.replace(seed=7), tiny_model, few_tunes, tmp_path / "c", log=None)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert runs[0].history == runs[1].history
    assert (tmp_path / "a" / "after.abc").read_bytes() == (
        tmp_path / "b" / "after.abc"
    ).read_bytes()
    assert (tmp_path / "a" / "loss.png").read_bytes() == (tmp_path / "b" / "loss.png").read_bytes()
    assert (
        not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
        and other.history != runs[0].history
    )


def test_the_documented_switch_cuts_a_training_and_nothing_else(
    tiny_model, few_tunes, monkeypatch, one_thread
):
    recipe = SMALL.replace(
        max_steps=SHORT + 5,
        lr_scheduler_type="constant",
        warmup_steps=0,
        eval_strategy="no",
        logging_steps=100,
    )
    whole = train(recipe, tiny_model, few_tunes)
    monkeypatch.setenv("HPKIT_SHORT", "1")
    cut, shorter = (
        train(recipe, tiny_model, few_tunes),
        train(recipe.replace(max_steps=SHORT), tiny_model, few_tunes),
    )
    assert (whole.updates, cut.updates) == (SHORT + 5, SHORT) and cut.history[-1]["step"] == SHORT
    assert (
        "loss" in cut.history[-1] and cut.weights_norm == shorter.weights_norm != whole.weights_norm
    )


def test_training_alone_is_the_same_training(tiny_model, few_tunes, tmp_path, one_thread):
    seen = []
    recipe = SMALL.replace(max_steps=6)
    alone = train(
        recipe,
        tiny_model,
        few_tunes,
        WHOLE,
        watch=lambda update, updates, logged: seen.append((update, updates, logged)),
    )
    kept = finetune(recipe, tiny_model, few_tunes, tmp_path / "out", log=None)
    for name in "history updates tokens eval_loss_after bars_valid_after weights_norm evaluation_fingerprint".split():
        assert getattr(alone, name) == getattr(kept, name), name
    assert kept.weights_norm == pytest.approx(
        sum(w.float().norm() ** 2 for w in weights(tmp_path / "out").values()).item() ** 0.5
    )
    assert [(update, updates) for update, updates, logged in seen if not logged] == [
        (update, 6) for update in range(1, 7)
    ]
    assert [update for update, _, logged in seen if "eval_loss" in logged] == [0, 6]
    assert not alone.diverged and alone.bars_valid_before is None


def test_the_same_yardstick_for_every_length(tiny_model, few_tunes):
    runs = [
        train(
            SMALL.replace(max_steps=2, max_seq_length=length),
            tiny_model,
            few_tunes,
            Yardstick(4, 48, 20),
        )
        for length in (16, 64)
    ]
    assert runs[0].evaluation_fingerprint == runs[1].evaluation_fingerprint
    assert runs[0].eval_loss_before == runs[1].eval_loss_before


def test_a_run_that_leaves_the_numbers_says_so(tiny_model, few_tunes, tmp_path):
    wild = SMALL.replace(learning_rate=1e30, warmup_steps=0, optim="adamw_torch", max_steps=6)
    run = finetune(wild, tiny_model, few_tunes, tmp_path / "out", log=None)
    assert run.diverged and run.bars_valid_after is None and Run.load(tmp_path / "out").diverged
    assert not (tmp_path / "out" / "after.abc").exists()
    assert train(wild, tiny_model, few_tunes).diverged


def test_any_causal_model_takes_the_same_path(tmp_path):
    """A GPT-2 with a byte-pair tokenizer of its own, tied weights, another vocabulary, on plain text."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    text = "\n\n".join(
        f"Line {number} of a small text about nothing but itself and the number {number}."
        for number in range(60)
    )
    (tmp_path / "text.txt").write_text(text)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([text], vocab_size=300, special_tokens=["<|endoftext|>"])
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer, bos_token=end, eos_token=end
    )
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=2, n_positions=64)
    ).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    recipe = SMALL.replace(max_seq_length=None, max_steps=30, learning_rate=3e-3)
    run = finetune(
        recipe, str(tmp_path / "gpt2"), str(tmp_path / "text.txt"), tmp_path / "out", log=None
    )
    assert run.eval_loss_after < run.eval_loss_before - 1
    assert run.bars_valid_after is None and (tmp_path / "out" / "after.txt").read_text().strip()
    assert not (tmp_path / "out" / "after.wav").exists()
    assert run.tokens == 30 * 2 * 64


# Stopped and resumed.


def wait_for(path: Path, process) -> None:
    end = time.monotonic() + 240
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


@pytest.mark.parametrize("optim", ["adamw_8bit", "adamw_torch"])
def test_kill_9_and_resume_end_in_the_same_bits(
    optim, tiny_model, few_tunes, tmp_path, hpkit_command
):
    recipe = SMALL.replace(optim=optim, max_steps=60, save_steps=5, eval_steps=20)
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
    stdout, stderr = process.communicate(timeout=60)
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
    # Killed between the last update and run.json: nothing is left to train, and the end is made up for.
    again = finetune(SMALL, tiny_model, few_tunes, unfinished, resume=True, log=None)
    assert (again.resumed_from, again.updates, again.tokens_per_second) == (12, 12, None)
    assert again.optimizer_state_dtypes == finished[1].optimizer_state_dtypes
    assert same(weights(unfinished), weights(finished[0]))


def test_killed_before_the_first_checkpoint(unfinished, tiny_model, few_tunes):
    for folder in unfinished.glob("checkpoint-*"):
        shutil.rmtree(folder)
    lines = []
    run = finetune(SMALL, tiny_model, few_tunes, unfinished, resume=True, log=lines.append)
    assert "no whole checkpoint: starting from the first update" in lines
    assert run.resumed_from is None and run.updates == 12


# Bad input, each found before anything is written.


def refused(message, *arguments, **options):
    with pytest.raises(BadInput, match=message) as caught:
        finetune(*arguments, log=None, **options)
    assert "\n" not in str(caught.value)


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


def test_a_folder_that_cannot_be_made(tiny_model, few_tunes, tmp_path):
    (tmp_path / "file").write_text("mine")
    refused("cannot be written", SMALL, tiny_model, few_tunes, tmp_path / "file" / "out")


def test_no_room_at_the_start(tiny_model, few_tunes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000)
    )
    refused("no space left on the device", SMALL, tiny_model, few_tunes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_room_on_the_way(tiny_model, few_tunes, tmp_path):
    """The kernel refuses files over 100 kB, as it would on a full disk, when the first checkpoint is written."""
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


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        RuntimeError("PytorchStreamWriter failed"),
        OSError(errno.EDQUOT, "x"),
    ],
)
def test_each_way_of_saying_the_disk_is_full(error, tmp_path):
    with (
        pytest.raises(BadInput, match="no space left"),
        checkpoints.disk_errors_are_bad_input(tmp_path, "go on"),
    ):
        raise error
    with (
        pytest.raises(RuntimeError, match="something else"),
        checkpoints.disk_errors_are_bad_input(tmp_path, "go on"),
    ):
        raise RuntimeError("something else")


def test_a_loss_that_is_no_number_is_null_in_json(finished):
    spoilt = dataclasses.replace(
        finished[1], history=[{"step": 1, "loss": float("nan"), "grad_norm": float("inf")}]
    )
    text = spoilt.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert json.loads(text)["history"] == [{"step": 1, "loss": None, "grad_norm": None}]


def test_random_weights_end_far_above_the_starter(tmp_path):
    """A short form of the claim: 60 updates of the starter recipe, pre-trained against random."""
    from hpkit.recipe import STARTER

    short = STARTER.replace(max_steps=60, eval_strategy="no", save_strategy="no")
    starter, fresh = (
        finetune(short, model, "airdsAirs", tmp_path / model, log=None)
        for model in ("starter", "fresh")
    )
    assert fresh.eval_loss_after > starter.eval_loss_after + 0.4
    assert starter.eval_loss_after < starter.eval_loss_before
    assert starter.bars_valid_after > fresh.bars_valid_after
    assert (tmp_path / "starter" / "after.wav").exists() and (
        tmp_path / "starter" / "after.png"
    ).exists()
