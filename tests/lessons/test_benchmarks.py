"""Recorded benchmarks: ratios of the same rounds, and the files of the project."""

import json
from pathlib import Path

import pytest

from hpkit.errors import BadInput
from hpkit.lessons import load_benchmarks
from hpkit.lessons.benchmarks import Benchmark, Measured

IN_TURNS = {"small": {"hpkit": [1.0, 4.0, 8.0], "bare PyTorch loop": [3.0, 4.0, 16.0]}}


def side(
    name: str, rates: list[float], same: bool = True, model: str = "small", setup: str = "bf16"
) -> Measured:
    memory = dict(
        peak_memory_bytes=[3, 1, 2], idle_memory_bytes=[1, 1, 1], optimizer_state_bytes={"uint8": 2}
    )
    found = dict(text_share=0.9, update_seconds=0.1, flops_utilisation=None, losses=[1.5])
    return Measured(
        model,
        10,
        setup,
        name,
        same,
        "as it comes",
        useful_tokens_per_second=rates,
        **memory,
        **found,
    )


def benchmark(
    *sides: Measured, date: str = "2026-11-23", device: str = "Some(R) CPU @ 2 GHz"
) -> Benchmark:
    return Benchmark(
        device,
        "cpu",
        2,
        date,
        {"torch": "2.13.0"},
        3,
        10,
        list(sides),
        [],
        IN_TURNS,
        {"fp16": "no GPU"},
    )


def test_a_ratio_is_that_of_the_same_rounds():
    # The machine was twice as slow in the second round, for both: the ratio is 2 in each, that of unpaired medians too low.
    measured = benchmark(
        side("hpkit", [200.0, 100.0, 180.0]), side("Trainer", [100.0, 50.0, 90.0], same=False)
    )
    assert measured.ratio("small", "bf16", "Trainer") == 2
    assert measured.ratios("small", "bf16", "Trainer") == [2, 2, 2]
    assert (
        measured.of("small", "bf16")["hpkit"].rate == 180
        and measured.of("small", "bf16")["hpkit"].peak == 2
    )
    assert measured.best_of_the_others("small", "bf16") is None  # Trainer has settings of its own


def test_the_best_of_the_others_has_the_same_settings():
    sides = (
        side("hpkit", [9.0]),
        side("loop", [3.0]),
        side("packing", [4.0]),
        side("defaults", [5.0], same=False),
    )
    measured = benchmark(*sides, side("hpkit", [1.0], model="large"))
    assert measured.best_of_the_others("small", "bf16") == "packing"
    assert (
        measured.comparisons == [("small", "bf16"), ("large", "bf16")]
        and len(measured.of("large", "bf16")) == 1
    )


def test_the_best_of_the_others_is_the_best_round_by_round():
    # By its median the loop is the faster of the two, 4 to 3; beside hpkit, in the same rounds, packing is.
    sides = (
        side("hpkit", [4.0, 1.0, 8.0]),
        side("loop", [4.0, 0.5, 8.0]),
        side("packing", [3.0, 3.0, 16.0]),
    )
    assert benchmark(*sides).best_of_the_others("small", "bf16") == "packing"


def test_a_ratio_in_turns_is_that_of_neighbouring_updates():
    assert (
        benchmark(side("hpkit", [1.0])).ratio_in_turns("small") == 2
    )  # 3, 1 and 2; that of the medians is 1


def test_a_benchmark_is_read_as_it_was_written(tmp_path):
    old, new = (
        benchmark(side("hpkit", [1.5]), date="2026-01-02"),
        benchmark(side("hpkit", [2.5]), device="b"),
    )
    assert old.file_name == "some-r-cpu-2-ghz.json"
    for one in (old, new):
        (tmp_path / one.file_name).write_text(one.to_json())
    assert load_benchmarks(tmp_path) == [new, old]
    (tmp_path / "b.json").write_text(json.dumps({"device": "b"}))
    with pytest.raises(
        BadInput, match="b.json is no benchmark of this version .*: record it again with make bench"
    ):
        load_benchmarks(tmp_path)


MODELS = {"cpu": {"starter", "llama-10m"}, "cuda": {"smollm2-135m", "qwen2.5-0.5b"}}
SIDES = {"hpkit", "bare PyTorch loop", "Trainer, defaults"}
SFT = {"SFTTrainer, packing", "SFTTrainer, wrapped", "SFTTrainer, defaults"}


def test_the_projects_benchmarks_are_whole():
    """What a notebook says of them rests on this: every side in every round, all training the same, on the tested versions."""
    recorded = load_benchmarks()
    assert any(one.kind == "cpu" for one in recorded)
    lines = (
        (Path(__file__).parents[2] / "requirements.txt").read_text(encoding="utf-8").splitlines()
    )
    pins = dict(line.split("==") for line in lines if "==" in line)
    for one in recorded:
        assert not [why for why in one.left_out.values() if why.startswith("failed")]
        assert {name for name, _ in one.comparisons} == MODELS[one.kind] and set(
            one.of(*one.comparisons[0])
        ) == SIDES | SFT
        for model in MODELS[one.kind]:
            assert {len(seconds) for seconds in one.in_turns[model].values()} == {
                one.rounds * one.updates
            }
        for measured in one.sides:
            assert (
                len(measured.useful_tokens_per_second)
                == len(measured.peak_memory_bytes)
                == one.rounds
                >= 3
            )
            if measured.side == "SFTTrainer, wrapped":  # whose documents see one another
                continue
            first = one.of(measured.model, measured.setup)["hpkit"].losses
            assert measured.losses == pytest.approx(
                first, rel=5e-3 if "16" in measured.setup else 1e-4
            ), "a side trains something else"
        for name, version in one.versions.items():
            assert version.partition("+")[0] == pins.get(name, version), (
                f"measured with {name} {version}: run make bench again"
            )
