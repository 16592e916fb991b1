"""Recorded benchmarks: ratios of the same rounds, the picture, and the files of the project."""

import json
from pathlib import Path

import pytest

from hpkit.errors import BadInput
from hpkit.figures.base import rendered
from hpkit.lessons import benchmark_picture, benchmarks, load_benchmarks
from hpkit.lessons.benchmarks import Benchmark, Measured

IN_TURNS = {"small": {"hpkit": [1.0, 4.0, 8.0], "bare PyTorch loop": [3.0, 4.0, 16.0]}}


def side(name: str, rates: list[float], **changes) -> Measured:
    """A side of the model `small` in bf16, on the same settings as hpkit, or with changes."""
    usual = dict(
        model="small",
        parameters=10,
        setup="bf16",
        side=name,
        same_settings=True,
        settings="as it comes",
        useful_tokens_per_second=rates,
        peak_memory_bytes=[3, 1, 2],
        idle_memory_bytes=[1, 1, 1],
        text_share=0.9,
        update_seconds=0.1,
        flops_utilisation=None,
        optimizer_state_bytes={"uint8": 2},
        losses=[1.5],
    )
    return Measured(**usual | changes)


def benchmark(*sides: Measured, **changes) -> Benchmark:
    usual = dict(
        device="Some(R) CPU @ 2 GHz",
        kind="cpu",
        threads=2,
        date="2026-11-23",
        versions={"torch": "2.13.0"},
        rounds=3,
        updates=10,
        sides=list(sides),
        optimizers=[],
        in_turns=IN_TURNS,
        left_out={"fp16": "no GPU"},
    )
    return Benchmark(**usual | changes)


def test_a_ratio_is_that_of_the_same_rounds():
    # The machine was twice as slow in the second round, for both: the ratio is 2 in each, that of
    # unpaired medians too low.
    hpkit = side("hpkit", [200.0, 100.0, 180.0])
    trainer = side("Trainer", [100.0, 50.0, 90.0], same_settings=False)
    measured = benchmark(hpkit, trainer)
    assert measured.ratio("small", "bf16", "Trainer") == 2
    assert measured.ratios("small", "bf16", "Trainer") == [2, 2, 2]
    found = measured.of("small", "bf16")["hpkit"]
    assert found.rate == 180
    assert found.peak == 2
    assert measured.best_of_the_others("small", "bf16") is None  # Trainer has settings of its own


def test_the_best_of_the_others_has_the_same_settings():
    sides = (
        side("hpkit", [9.0]),
        side("loop", [3.0]),
        side("packing", [4.0]),
        side("defaults", [5.0], same_settings=False),
    )
    measured = benchmark(*sides, side("hpkit", [1.0], model="large"))
    assert measured.best_of_the_others("small", "bf16") == "packing"
    assert measured.comparisons == [("small", "bf16"), ("large", "bf16")]
    assert len(measured.of("large", "bf16")) == 1


def test_the_best_of_the_others_is_the_best_round_by_round():
    # By its median the loop is the faster of the two, 4 to 3; beside hpkit, in the same rounds,
    # packing is.
    sides = (
        side("hpkit", [4.0, 1.0, 8.0]),
        side("loop", [4.0, 0.5, 8.0]),
        side("packing", [3.0, 3.0, 16.0]),
    )
    assert benchmark(*sides).best_of_the_others("small", "bf16") == "packing"


def test_a_ratio_in_turns_is_that_of_neighbouring_updates():
    # 3, 1 and 2; that of the medians is 1.
    assert benchmark(side("hpkit", [1.0])).ratio_in_turns("small") == 2


def test_a_benchmark_is_read_as_it_was_written(tmp_path):
    old = benchmark(side("hpkit", [1.5]), date="2026-01-02")
    new = benchmark(side("hpkit", [2.5]), device="b")
    assert old.file_name == "some-r-cpu-2-ghz.json"
    for one in (old, new):
        (tmp_path / one.file_name).write_text(one.to_json())
    assert load_benchmarks(tmp_path) == [new, old]
    (tmp_path / "b.json").write_text(json.dumps({"device": "b"}))
    message = "b.json is no benchmark of this version .*: record it again with make bench"
    with pytest.raises(BadInput, match=message):
        load_benchmarks(tmp_path)


@pytest.fixture
def figures(monkeypatch) -> list:
    """Every figure that was rendered, to look into."""
    made = []
    monkeypatch.setattr(
        benchmarks, "rendered", lambda figure, alt: made.append(figure) or rendered(figure, alt)
    )
    return made


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches]


def test_a_benchmark_is_drawn_with_both_its_quantities(figures):
    usual = dict(parameters=2_000_000, idle_memory_bytes=[100_000_000] * 3)
    sides = [
        side("hpkit", [3000.0, 1000.0, 2000.0], peak_memory_bytes=[300_000_000] * 3, **usual),
        side(
            "Trainer",
            [900.0, 1000.0, 1100.0],
            peak_memory_bytes=[450_000_000] * 3,
            same_settings=False,
            **usual,
        ),
    ]
    picture = benchmark_picture(benchmark(*sides, device="a CPU"))
    speed, memory = figures[0].axes
    assert widths(speed) == [2000, 1000]
    # Of each side what was held before the model was loaded, and what came since.
    assert widths(memory) == [100, 200, 100, 350]
    assert [list(line.get_xdata()) for line in speed.lines] == [[1000, 3000], [900, 1100]]
    assert speed.get_xlim()[1] > 3000
    assert memory.get_xlim()[1] > 450
    assert "2.0 million" in speed.get_title(loc="left")
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "hpkit",
        "before the model was loaded",
        "the library's defaults",
    ]
    assert picture.alt == (
        "Useful tokens per second and peak memory on a CPU. small, bf16: "
        "hpkit 2,000 (1,000 to 3,000), 300 MB; Trainer 1,000 (900 to 1,100), 450 MB."
    )


MODELS = {"cpu": {"starter", "llama-10m"}, "cuda": {"smollm2-135m", "qwen2.5-0.5b"}}
SIDES = {"hpkit", "bare PyTorch loop", "Trainer, defaults"}
SFT = {"SFTTrainer, packing", "SFTTrainer, wrapped", "SFTTrainer, defaults"}


@pytest.fixture(scope="module")
def recorded() -> list[Benchmark]:
    """The project's own. What a notebook says of them rests on the tests below."""
    found = load_benchmarks()
    assert "cpu" in [one.kind for one in found]
    return found


def test_the_projects_benchmarks_have_every_side_in_every_round(recorded):
    for one in recorded:
        for why in one.left_out.values():
            assert not why.startswith("failed")
        assert set(dict(one.comparisons)) == MODELS[one.kind]
        assert set(one.of(*one.comparisons[0])) == SIDES | SFT
        for model in MODELS[one.kind]:
            counts = set(map(len, one.in_turns[model].values()))
            assert counts == {one.rounds * one.updates}
        assert one.rounds >= 3
        for measured in one.sides:
            assert len(measured.useful_tokens_per_second) == one.rounds
            assert len(measured.peak_memory_bytes) == one.rounds


def test_all_sides_of_the_projects_benchmarks_train_the_same(recorded):
    for one in recorded:
        for measured in one.sides:
            if measured.side == "SFTTrainer, wrapped":  # whose documents see one another
                continue
            first = one.of(measured.model, measured.setup)["hpkit"].losses
            within = 1e-4
            if "16" in measured.setup:
                within = 5e-3
            assert measured.losses == pytest.approx(first, rel=within), "it trains something else"


def test_the_projects_benchmarks_are_of_the_tested_versions(recorded):
    file = Path(__file__).parents[2] / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    for one in recorded:
        for name, version in one.versions.items():
            assert version.partition("+")[0] == pins.get(name, version), (
                f"measured with {name} {version}: run make bench again"
            )
