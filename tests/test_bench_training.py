"""The benchmark of training: a dry run of the GPU's table on this machine, and its count of operations."""

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bench_training  # beside this file
import pytest

from hpkit.capability import MACHINES
from hpkit.lessons.benchmarks import Benchmark, Measured
from hpkit.memory import optimizer_states, parameters_of
from hpkit.model import read_config

SCRIPT = Path(bench_training.__file__)
MODEL = "qwen2.5-0.5b"


@pytest.mark.slow
def test_a_dry_run_is_the_gpus_table(tmp_path):
    """One of its shapes, tiny, without TRL, which `make bench` alone installs. One test, for it runs once."""
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
    assert set(turns) == set(bench_training.EVERYWHERE) and all(
        len(seconds) == 2 and min(seconds) > 0 for seconds in turns.values()
    )
    assert f"{benchmark.ratio_in_turns(MODEL):.3f} times its speed" in process.stdout


def test_in_turns_each_side_answers_for_its_own_time(tiny_model, monkeypatch):
    """A bare loop that sleeps is slower by its sleep; hpkit, beside it, is not."""
    honest = bench_training.bare_updates

    def slow(*arguments):
        for optimizer in honest(*arguments):
            time.sleep(0.5)
            yield optimizer

    monkeypatch.setattr(bench_training, "bare_updates", slow)
    monkeypatch.setattr(bench_training, "quiet", lambda: None)  # it silences the whole process
    job = {
        "model": str(tiny_model),
        "device": "cpu",
        "length": 64,
        "updates": 3,
        "setup": "bf16 + adamw_8bit",
    }
    seconds = bench_training.measure_in_turns(job)
    assert [len(taken) for taken in seconds.values()] == [3, 3]
    assert min(seconds[bench_training.BARE]) > 0.5 > statistics.median(seconds["hpkit"])


def every_setup_that_a_cpu_has_is_measured(benchmark: Benchmark, said: str) -> None:
    setups = ["bf16 + adamw_8bit", "fp32 + AdamW", "bf16 + AdamW"]
    assert benchmark.comparisons == [(MODEL, setup) for setup in setups] and benchmark.kind == "cpu"
    assert (
        "fp16 on a CPU" in benchmark.left_out["fp16 + AdamW"]
        and f"left out: fp16 + AdamW: {benchmark.left_out['fp16 + AdamW']}" in said
    )
    whole, *others = (set(benchmark.of(MODEL, setup)) for setup in setups)
    assert whole >= {"hpkit", "bare PyTorch loop", "Trainer, defaults"} and all(
        other == set(bench_training.EVERYWHERE) for other in others
    )
    for side in benchmark.sides:
        assert (
            side.rate > 0
            and side.peak > side.idle_memory_bytes[0] > 0
            and side.update_seconds > 0
            and side.flops_utilisation is None
        )
        assert f"{side.rate:,.0f}" in said and f"{side.peak / 1e6:,.0f} MB" in said
        # Packed, every token but the first of a document or block is trained; a batch of padded tunes is a good part padding.
        assert side.text_share > 0.95 if side.same_settings else 0.3 < side.text_share < 0.9


def every_side_trains_the_same(benchmark: Benchmark) -> None:
    for model, setup in benchmark.comparisons:
        losses = [
            side.losses
            for name, side in benchmark.of(model, setup).items()
            if name != bench_training.WRAPPED
        ]
        assert all(len(one) == bench_training.CHECKED and one[-1] < one[0] for one in losses)
        assert all(
            one == pytest.approx(losses[0], abs=1e-5 if setup.startswith("fp32") else 1e-3)
            for one in losses
        )


def states_are_as_memory_predicts(benchmark: Benchmark, tmp_path) -> None:
    bench_training.save_random_model(MODEL, tmp_path, tiny=True)
    parameters = parameters_of(read_config(str(tmp_path)))
    for side in benchmark.sides:
        optim = bench_training.SETUPS[side.setup]["optim"]
        predicted = {}
        for state in optimizer_states(parameters, optim):
            predicted[state.dtype] = predicted.get(state.dtype, 0) + state.bytes
        assert side.optimizer_state_bytes == predicted and ("uint8" in predicted) == (
            optim == "adamw_8bit"
        )
    eight_bit, fused = benchmark.optimizers
    assert (eight_bit["optim"], fused["optim"]) == ("adamw_8bit", "adamw_torch_fused") and min(
        eight_bit["seconds"], fused["seconds"]
    ) > 0
    for one in (eight_bit, fused):
        assert sum(one["bytes"].values()) == one["predicted_bytes"]
    assert (
        eight_bit["bytes"]["uint8"] > 0
        and "uint8" not in fused["bytes"]
        and eight_bit["predicted_bytes"] < fused["predicted_bytes"]
    )


@pytest.mark.parametrize("tied", [True, False])
def test_operations_are_those_that_torch_counts(tied):
    """torch's own counter sees each matrix product. It counts attention whole, and ours only what a token may see: half."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = bench_training.SHAPES["smollm2-135m"] | bench_training.TINY
    config = LlamaConfig(
        **shape | dict(hidden_size=256, intermediate_size=512), tie_word_embeddings=tied
    )
    model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    length, batch = 96, 2
    tokens = torch.randint(512, (batch, length))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    needed = bench_training.flops_per_token(config, model.num_parameters(), 2 * length)
    # What it leaves out of account: norms and positions, which are no products.
    assert counter.get_total_flops() == pytest.approx(needed * batch * length, rel=0.01)


def test_the_shapes_are_as_large_as_their_names():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    for name, (config, kind), size in (
        ("llama-10m", (LlamaConfig, LlamaForCausalLM), 10e6),
        ("smollm2-135m", (LlamaConfig, LlamaForCausalLM), 134.5e6),
        ("qwen2.5-0.5b", (Qwen2Config, Qwen2ForCausalLM), 494e6),
    ):
        with torch.device("meta"):
            model = kind(config(**bench_training.SHAPES[name], tie_word_embeddings=True))
        assert model.num_parameters() == pytest.approx(
            size, rel=0.1 if name == "llama-10m" else 0.005
        )


def test_peaks_are_those_of_the_cards_precision():
    assert bench_training.peak_flops("NVIDIA H100 80GB HBM3", "fp32 + AdamW") == 67e12
    assert bench_training.peak_flops("NVIDIA A100-SXM4-40GB", "bf16 + adamw_8bit") == 312e12
    assert (
        bench_training.peak_flops("NVIDIA H100 PCIe", "bf16 + AdamW")
        is bench_training.peak_flops("AMD EPYC", "fp32 + AdamW")
        is None
    )


def test_a_setup_is_measured_only_where_hpkit_trains_it_as_named():
    taken, left_out = bench_training.available(MACHINES["h100"])
    assert list(taken) == list(bench_training.SETUPS) and not left_out
    taken, left_out = bench_training.available(MACHINES["t4"])
    assert (
        list(taken) == ["fp32 + AdamW", "fp16 + AdamW"]
        and "only emulates bf16" in left_out["bf16 + adamw_8bit"]
    )
    taken, left_out = bench_training.available(
        dataclasses.replace(MACHINES["cpu"], eight_bit=False)
    )
    assert (
        list(taken) == ["fp32 + AdamW", "bf16 + AdamW"]
        and "keeps no 8-bit states" in left_out["bf16 + adamw_8bit"]
    )


def test_mistakes_are_named():
    def run(*arguments):
        return subprocess.run(
            [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300
        )

    mixed = run("--models", "starter", "qwen2.5-0.5b")
    assert (
        mixed.returncode == 2
        and "longer sequences" in mixed.stderr
        and "Traceback" not in mixed.stderr
    )
    none = run("--rounds", "0")
    assert none.returncode == 2 and "--rounds: expected 1 or more, got 0" in none.stderr
    assert "useful\ntokens" in run("--help").stdout
