"""Several processes: the curve of one process, one voice, one folder, one end; all with the real
torchrun, on gloo.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

import hpkit
from hpkit.errors import BadInput
from hpkit.finetune import Run, checkpoints, finetune
from hpkit.recipe import Recipe

#: 204 blocks of 32 tokens: of an epoch's last update, with 4 blocks to a process, the second
#: process has repeats alone.
EPOCHS = Recipe(
    per_device_train_batch_size=4,
    max_seq_length=32,
    num_train_epochs=2,
    learning_rate=1e-3,
    warmup_steps=3,
    optim="adamw_8bit",
    bf16=True,
    logging_steps=1,
    eval_strategy="steps",
    eval_steps=7,
    save_steps=10,
    save_total_limit=2,
)
EXACT = EPOCHS.replace(optim="adamw_torch", bf16=False)
ADAPTED = EPOCHS.replace(lora_r=64, lora_alpha=32, learning_rate=3e-3)
TIMEOUT = 600

pytestmark = pytest.mark.slow


def as_flags(recipe: Recipe) -> list[str]:
    return [
        f"--{name}={json.dumps(value).strip(chr(34))}"
        for name, value in dataclasses.asdict(recipe).items()
        if value is not None
    ]


@pytest.fixture(scope="module")
def torchrun():
    """Start a module or script in two processes; returns the finished torchrun, or, with
    `wait=False`, the live one.
    """
    agents = []

    def run(*arguments, wait=True, cwd=None):
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            *map(str, arguments),
        ]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(hpkit.__file__).parents[1]),
        }
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        agent = subprocess.Popen(command, cwd=cwd, env=environment, **pipes)
        agents.append(agent)
        return finish(agent) if wait else agent

    yield run
    for agent in agents:
        assert agent.poll() is not None


def finish(agent) -> subprocess.CompletedProcess:
    """Wait; a run that hangs is ended with its ranks, and fails the test."""
    try:
        stdout, stderr = agent.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        for process in (*psutil.Process(agent.pid).children(recursive=True), agent):
            process.kill()
        pytest.fail(f"no end after {TIMEOUT} s: {agent.communicate()}")
    return subprocess.CompletedProcess(agent.args, agent.returncode, stdout, stderr)


def rank_of(agent, rank: int) -> psutil.Process:
    return next(
        process
        for process in psutil.Process(agent.pid).children()
        if process.environ().get("RANK") == str(rank)
    )


def wait_for(path: Path, agent) -> None:
    end = time.monotonic() + TIMEOUT
    while not path.exists():
        assert agent.poll() is None, agent.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture(scope="module")
def finetune_flags(tiny_model, few_tunes) -> list[str]:
    return ["-m", "hpkit", "finetune", "--model", tiny_model, "--corpus", few_tunes]


@pytest.fixture(scope="module")
def two(torchrun, finetune_flags, tmp_path_factory):
    """(folder, finished torchrun) of two processes that were not told where to write."""
    work = tmp_path_factory.mktemp("two")
    done = torchrun(*finetune_flags, *as_flags(EPOCHS), cwd=work)
    assert done.returncode == 0, done.stderr
    (out,) = (work / "runs").iterdir()
    return out, done


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model" / "model.safetensors")


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_process_speaks_and_writes(two):
    out, done = two
    for part in (
        "device: CPU",
        "204 examples of 32 tokens, 8 to an update: 26 updates an epoch, 52 in all",
        "evaluation loss before",
    ):
        assert done.stdout.count(part) == 1
    assert "[rank" not in done.stderr and "Warning" not in done.stderr
    assert done.stderr.count("  0%|") == 1  # one bar
    assert {
        "run.json",
        "started.json",
        "loss.png",
        "model",
        "before.abc",
        "after.abc",
        "checkpoint-52",
    } <= {f.name for f in out.iterdir()}
    assert not [file for file in out.rglob("*") if file.name.endswith(".part")]
    assert {file.suffix for file in (out / "model").iterdir()} == {".json", ".safetensors"}
    assert Run.load(out).processes == 2


@pytest.mark.parametrize("recipe, rounding", [(EXACT, 2e-5), (EPOCHS, 2e-3), (ADAPTED, 2e-3)])
def test_two_processes_follow_one(
    recipe, rounding, two, torchrun, finetune_flags, tiny_model, few_tunes, tmp_path
):
    """The same examples to an update, in the same order: by two processes, by one, and by one that
    accumulates.
    """
    together = two[0]
    if recipe is not EPOCHS:
        together = tmp_path / "two"
        done = torchrun(*finetune_flags, *as_flags(recipe), "--out", together)
        assert done.returncode == 0, done.stderr
    runs = [Run.load(together)]
    for changes in (dict(per_device_train_batch_size=8), dict(gradient_accumulation_steps=2)):
        runs.append(
            finetune(
                recipe.replace(**changes),
                tiny_model,
                few_tunes,
                tmp_path / str(len(runs)),
                log=None,
            )
        )
    for other in runs[1:]:
        assert (
            (other.updates, other.tokens, other.processes)
            == (runs[0].updates, runs[0].tokens, 1)
            == (52, 2 * 204 * 32, 1)
        )
        assert other.weights_norm == pytest.approx(runs[0].weights_norm, rel=rounding)
        assert other.optimizer_state_dtypes == runs[0].optimizer_state_dtypes
        assert len(other.history) == len(runs[0].history) == 1 + 52 + 8
        for here, there in zip(runs[0].history, other.history):
            assert here["step"] == there["step"]
            for name in here.keys() & {"loss", "grad_norm", "learning_rate"}:
                assert here[name] == pytest.approx(
                    there[name], abs=rounding * 10 if name == "grad_norm" else rounding
                )
    # Evaluated in the same groups, the losses are the same; blocks differ by a label, so groups of
    # 4 weigh them otherwise.
    for here, there in zip(runs[0].history, runs[1].history):
        if "eval_loss" in here:
            assert here["eval_loss"] == pytest.approx(there["eval_loss"], abs=rounding)
    assert runs[0].eval_loss_before == pytest.approx(runs[1].eval_loss_before, abs=2e-6)


_STATES = """
import hashlib, json, os, sys
from hpkit.finetune import trained
from hpkit.recipe import Recipe
trainer = trained(Recipe(**json.loads(sys.argv[1])), *sys.argv[2:4])
digest, states = hashlib.sha256(), 0
for weight in trainer.model.parameters():
    digest.update(weight.detach().numpy().tobytes())
    for name, tensor in sorted(trainer.optimizer.state[weight].items()):
        if hasattr(tensor, "numpy"):
            states += name == "state1" and str(tensor.dtype) == "torch.uint8"
            digest.update(tensor.numpy().tobytes())
with open(sys.argv[4] + os.environ["RANK"], "w") as file:
    json.dump([digest.hexdigest(), states], file)
"""


def test_weights_and_8bit_states_are_the_same_on_both(torchrun, tiny_model, few_tunes, tmp_path):
    (tmp_path / "states.py").write_text(_STATES)
    recipe = json.dumps(dataclasses.asdict(EPOCHS.replace(max_steps=8)))
    done = torchrun(tmp_path / "states.py", recipe, tiny_model, few_tunes, tmp_path / "rank")
    assert done.returncode == 0, done.stderr
    (one, count), (other, _) = (
        json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)
    )
    assert one == other and count > 10


def test_a_killed_rank_and_resume_end_in_the_same_bits(
    two, torchrun, finetune_flags, tiny_model, few_tunes, tmp_path
):
    out = tmp_path / "killed"
    agent = torchrun(*finetune_flags, *as_flags(EPOCHS), "--out", out, wait=False)
    wait_for(out / "checkpoint-20" / "trainer_state.json", agent)
    rank_of(agent, 1).kill()
    assert finish(agent).returncode != 0 and not (out / "run.json").exists()
    with pytest.raises(
        BadInput, match="another number of processes: the run in .* has 2, now there are 1"
    ):
        finetune(EPOCHS, tiny_model, few_tunes, out, resume=True, log=None)
    done = torchrun("-m", "hpkit", "finetune", "--resume", "--out", out)
    assert done.returncode == 0, done.stderr
    before = Run.load(two[0])
    after = Run.load(out)
    assert after.resumed_from >= 10 and "resuming from checkpoint-" in done.stdout
    assert after.history == before.history and after.tokens == before.tokens
    assert same(weights(two[0]), weights(out))


def test_a_checkpoint_has_the_random_state_of_every_process(two, tmp_path):
    folder = two[0] / "checkpoint-52"
    assert checkpoints.checkpoint_fault(folder, 2) is None
    assert checkpoints.checkpoint_fault(folder, 3) == "rng_state_2.pth"
    assert checkpoints.checkpoint_fault(folder) == "rng_state.pth"


@pytest.mark.parametrize("signum, to", [(signal.SIGINT, "torchrun"), (signal.SIGTERM, "rank 1")])
def test_all_stop_after_the_same_update(signum, to, torchrun, finetune_flags, tmp_path):
    """torchrun hands a signal on to every rank; a scheduler may send it to one alone."""
    out = tmp_path / "out"
    recipe = EPOCHS.replace(max_steps=2000, save_steps=10, eval_strategy="no")
    agent = torchrun(*finetune_flags, *as_flags(recipe), "--out", out, wait=False)
    wait_for(out / "checkpoint-10" / "trainer_state.json", agent)
    told = agent if to == "torchrun" else rank_of(agent, 1)
    told.send_signal(signum)
    done = finish(agent)
    assert done.stdout.count("stopping here, with a checkpoint") == 1
    command = f"torchrun --nproc-per-node 2 -m hpkit finetune --resume --out {out}"
    line = f"hpkit: interrupted by {signum.name}; continue with: {command}"
    assert done.stderr.count(line) == 1 and "[rank" not in done.stderr
    if to == "rank 1":
        assert done.stderr.count(f"exitcode  : {128 + signum}") >= 1
    last = max(out.glob("checkpoint-*"), key=checkpoints.update_of)
    assert checkpoints.checkpoint_fault(last, 2) is None
    state = json.loads((last / "trainer_state.json").read_text())
    assert state["global_step"] == checkpoints.update_of(last) < 2000
    assert not (out / "run.json").exists()


_ONE_REFUSES = """
import atexit, os, sys
import torch.distributed
from hpkit.errors import BadInput
from hpkit.finetune import finetune
from hpkit.recipe import STARTER
rank = os.environ["RANK"]
# Runs after what hpkit has registered. gloo aborts one program in three that ends while the
# processes are still joined.
def note():
    joined = torch.distributed.is_initialized()
    open(sys.argv[3] + "/joined" + rank, "w").write(str(joined))
atexit.register(note)
try:
    corpus = sys.argv[2] if rank == "0" else "nowhere.abc"
    finetune(STARTER.replace(max_seq_length=32), sys.argv[1], corpus, sys.argv[3] + "/out")
except BadInput as error:
    open(sys.argv[3] + "/rank" + rank, "w").write(str(error))
"""


def test_a_mistake_that_one_rank_alone_meets_ends_all(torchrun, tiny_model, few_tunes, tmp_path):
    (tmp_path / "refuse.py").write_text(_ONE_REFUSES)
    done = torchrun(tmp_path / "refuse.py", tiny_model, few_tunes, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)]
    assert lines[0] == lines[1] and "nowhere.abc" in lines[0] and not (tmp_path / "out").exists()
    assert [(tmp_path / f"joined{rank}").read_text() for rank in (0, 1)] == ["False", "False"]


_COMMAND_AS_A_SCRIPT = """
import atexit, os, sys
from hpkit.__main__ import main
folder = sys.argv.pop(1)
atexit.register(lambda: open(folder + "/taken-down" + os.environ["RANK"], "w").close())
sys.exit(main())
"""


def test_the_command_ends_before_its_interpreter_is_taken_down(torchrun, finetune_flags, tmp_path):
    """gloo's threads are still there then, and one of them may abort a run that has succeeded."""
    (tmp_path / "command.py").write_text(_COMMAND_AS_A_SCRIPT)
    recipe = EPOCHS.replace(max_steps=1, eval_strategy="no", save_strategy="no")
    out = tmp_path / "out"
    arguments = [*finetune_flags[2:], *as_flags(recipe), "--out", out]
    done = torchrun(tmp_path / "command.py", tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"everything is in {out}" in done.stdout and Run.load(out).updates == 1
    assert not list(tmp_path.glob("taken-down*"))


def test_fsdp_is_refused_where_it_would_not_be_done(
    torchrun, finetune_flags, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    done = torchrun(*finetune_flags, "--out", tmp_path / "out")
    assert done.stderr.count("hpkit: FSDP was asked for") == 1 and not (tmp_path / "out").exists()


def test_a_mistake_is_one_line(torchrun, two, tmp_path):
    for arguments, message in (
        (["finetune", "--learning_rte", "1"], "did you mean --learning_rate?"),
        (["finetune", "--out", two[0]], "is not empty"),
        (["record", "--list"], "only finetune shares its work"),
    ):
        done = torchrun("-m", "hpkit", *arguments)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("hpkit: ")]
        assert message in line and done.stdout == "" and "[rank" not in done.stderr
        assert (
            "exitcode  : 2" in done.stderr
        )  # torchrun's own summary; its status is 1 whatever the ranks' is
