"""The benchmark of training: a dry run of the GPU's table here, and its count of operations."""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import bench_training  # beside this file
import pytest
from benchmark import sides
from benchmark.job import BARE, CHECKED, EVERYWHERE, SETUPS, WRAPPED, Job
from benchmark.models import SHAPES, TINY, flops_per_token, peak_flops, save_random_model

from hpkit.capability import MACHINES
from hpkit.lessons.benchmarks import Benchmark, Measured
from hpkit.memory import optimizer_states, parameters_of
from hpkit.model import read_config

SCRIPT = Path(bench_training.__file__)
MODEL = "qwen2.5-0.5b"


@pytest.mark.slow
def test_a_dry_run_is_the_gpus_table(tmp_path):
    """One of its shapes, tiny, without TRL, which `make bench` alone installs. One test, for it
    runs once."""
    out = tmp_path / "dry.json"
    command = [sys.executable, str(SCRIPT), "--dry-run", "--models", MODEL, "--out", str(out)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert process.returncode == 0, process.stdout + process.stderr
    values = json.loads(out.read_text(encoding="utf-8"))
    benchmark = Benchmark(**values | {"sides": [Measured(**side) for side in values["sides"]]})
    every_setup_that_a_cpu_has_is_measured(benchmark, process.stdout)
    every_side_trains_the_same(benchmark)
    states_are_as_memory_predicts(benchmark, tmp_path)
    turns = benchmark.in_turns[MODEL]
    assert set(turns) == set(EVERYWHERE)
    for seconds in turns.values():
        assert len(seconds) == 2 and min(seconds) > 0
    assert f"{benchmark.ratio_in_turns(MODEL):.3f} times its speed" in process.stdout


def test_in_turns_each_side_answers_for_its_own_time(tiny_model, monkeypatch):
    """A bare loop that sleeps is slower by its sleep; hpkit, beside it, is not."""
    honest = sides.bare_updates

    def slow(*arguments):
        for optimizer in honest(*arguments):
            time.sleep(0.5)
            yield optimizer

    monkeypatch.setattr(sides, "bare_updates", slow)
    # Not through `measure`, which silences the whole process.
    seconds = sides.measure_in_turns(Job(tiny_model, "cpu", length=64, updates=3))
    assert [len(taken) for taken in seconds.values()] == [3, 3]
    assert min(seconds[BARE]) > 0.5 > statistics.median(seconds["hpkit"])


def every_setup_that_a_cpu_has_is_measured(benchmark: Benchmark, said: str) -> None:
    setups = ["bf16 + adamw_8bit", "fp32 + AdamW", "bf16 + AdamW"]
    assert benchmark.comparisons == [(MODEL, setup) for setup in setups] and benchmark.kind == "cpu"
    why = benchmark.left_out["fp16 + AdamW"]
    assert "fp16 on a CPU" in why and f"left out: fp16 + AdamW: {why}" in said
    whole, *others = (set(benchmark.of(MODEL, setup)) for setup in setups)
    assert whole >= {"hpkit", "bare PyTorch loop", "Trainer, defaults"}
    assert others == [set(EVERYWHERE)] * 2
    for side in benchmark.sides:
        assert side.rate > 0 and side.update_seconds > 0
        assert side.peak > side.idle_memory_bytes[0] > 0
        assert side.flops_utilisation is None
        assert f"{side.rate:,.0f}" in said and f"{side.peak / 1e6:,.0f} MB" in said
        # Packed, every token but the first of a document or block is trained; a batch of padded
        # tunes is a good part padding.
        if side.same_settings:
            assert side.text_share > 0.95
        else:
            assert 0.3 < side.text_share < 0.9


def every_side_trains_the_same(benchmark: Benchmark) -> None:
    for model, setup in benchmark.comparisons:
        sides_here = benchmark.of(model, setup)
        losses = [side.losses for name, side in sides_here.items() if name != WRAPPED]
        # Half precision rounds sums in another order in each side.
        tolerance = 1e-5 if setup.startswith("fp32") else 1e-3
        for one in losses:
            assert len(one) == CHECKED and one[-1] < one[0]
            assert one == pytest.approx(losses[0], abs=tolerance)


def states_are_as_memory_predicts(benchmark: Benchmark, tmp_path) -> None:
    save_random_model(MODEL, tmp_path, tiny=True)
    parameters = parameters_of(read_config(str(tmp_path)))
    for side in benchmark.sides:
        optim = SETUPS[side.setup]["optim"]
        predicted = Counter()
        for state in optimizer_states(parameters, optim):
            predicted[state.dtype] += state.bytes
        assert side.optimizer_state_bytes == predicted
        assert ("uint8" in predicted) == (optim == "adamw_8bit")
    eight_bit, fused = benchmark.optimizers
    assert (eight_bit["optim"], fused["optim"]) == ("adamw_8bit", "adamw_torch_fused")
    for one in (eight_bit, fused):
        assert one["seconds"] > 0
        assert sum(one["bytes"].values()) == one["predicted_bytes"]
    assert eight_bit["bytes"]["uint8"] > 0 and "uint8" not in fused["bytes"]
    assert eight_bit["predicted_bytes"] < fused["predicted_bytes"]


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_those_that_torch_counts(tied):
    """torch's own counter sees each matrix product. It counts attention whole, and ours only what a
    token may see: half."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = SHAPES["smollm2-135m"] | TINY
    config = LlamaConfig(
        **shape | dict(hidden_size=256, intermediate_size=512), tie_word_embeddings=tied
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    length = 96
    batch = 2
    tokens = torch.randint(512, (batch, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    needed = flops_per_token(config, model.num_parameters(), 2 * length)
    # What it leaves out of account: norms and positions, which are no products.
    assert counter.get_total_flops() == pytest.approx(needed * batch * length, rel=0.01)


def test_the_shapes_are_as_large_as_their_names():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    llama = (LlamaConfig, LlamaForCausalLM)
    qwen2 = (Qwen2Config, Qwen2ForCausalLM)
    for name, (config, kind), size, tolerance in (
        ("llama-10m", llama, 10e6, 0.1),
        ("smollm2-135m", llama, 134.5e6, 0.005),
        ("qwen2.5-0.5b", qwen2, 494e6, 0.005),
    ):
        with torch.device("meta"):  # shapes alone, without the gigabytes
            model = kind(config(**SHAPES[name], tie_word_embeddings=True))
        assert model.num_parameters() == pytest.approx(size, rel=tolerance)


def test_peaks_are_those_of_the_cards_precision():
    assert peak_flops("NVIDIA H100 80GB HBM3", "fp32 + AdamW") == 67e12
    assert peak_flops("NVIDIA A100-SXM4-40GB", "bf16 + adamw_8bit") == 312e12
    assert peak_flops("NVIDIA H100 PCIe", "bf16 + AdamW") is None
    assert peak_flops("AMD EPYC", "fp32 + AdamW") is None


def test_a_setup_is_measured_only_where_hpkit_trains_it_as_named():
    taken, left_out = bench_training.available(MACHINES["h100"])
    assert list(taken) == list(SETUPS) and not left_out
    taken, left_out = bench_training.available(MACHINES["t4"])
    assert list(taken) == ["fp32 + AdamW", "fp16 + AdamW"]
    assert "only emulates bf16" in left_out["bf16 + adamw_8bit"]
    without_8bit = dataclasses.replace(MACHINES["cpu"], eight_bit=False)
    taken, left_out = bench_training.available(without_8bit)
    assert list(taken) == ["fp32 + AdamW", "bf16 + AdamW"]
    assert "keeps no 8-bit states" in left_out["bf16 + adamw_8bit"]


def test_mistakes_are_named():
    def run(*arguments):
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    mixed = run("--models", "starter", "qwen2.5-0.5b")
    assert mixed.returncode == 2
    assert "longer sequences" in mixed.stderr and "Traceback" not in mixed.stderr
    none = run("--rounds", "0")
    assert none.returncode == 2 and "--rounds: expected 1 or more, got 0" in none.stderr
    # The description keeps its lines: argparse would make one paragraph of the table of sides.
    assert "bare PyTorch loop     the same packed" in run("--help").stdout


WITHOUT_WIDGETS = """
import sys
for name in ("ipywidgets", "jupyterlab", "IPython"):
    sys.modules[name] = None
sys.path.insert(0, TESTS)
import bench_training
from benchmark.loop import make_optimizer
from hpkit.model import load_model
from hpkit.recipe import Recipe
model, _ = load_model(MODEL)
print(type(make_optimizer(model, Recipe(optim="adamw_torch_fused"))).__name__)"""


def test_no_widgets_are_needed(tiny_model):
    """A machine with a GPU may have neither ipywidgets nor JupyterLab."""
    code = WITHOUT_WIDGETS.replace("TESTS", repr(str(SCRIPT.parent)))
    code = code.replace("MODEL", repr(tiny_model))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "AdamW\n", done.stderr
