"""The picture of a benchmark: what is drawn is what was measured, and the words say the same."""

import pytest

from hpkit.figures.base import rendered
from hpkit.lessons import benchmarks
from hpkit.lessons.benchmarks import Benchmark, Measured, benchmark_picture


@pytest.fixture
def figures(monkeypatch):
    """The figures that were drawn: a picture itself has nothing but its bytes and its words."""
    made = []

    def noted(figure, alt):
        made.append(figure)
        return rendered(figure, alt)

    monkeypatch.setattr(benchmarks, "rendered", noted)
    return made


def side(name: str, rates: list[float], peak: int, same_settings: bool) -> Measured:
    return Measured(
        model="small",
        parameters=2_000_000,
        setup="bf16",
        side=name,
        same_settings=same_settings,
        settings="as it comes",
        useful_tokens_per_second=rates,
        peak_memory_bytes=[peak] * 3,
        idle_memory_bytes=[100_000_000] * 3,
        text_share=0.99,
        update_seconds=0.1,
        flops_utilisation=None,
        optimizer_state_bytes={"float32": 8},
        losses=[1.0],
    )


def test_a_benchmark_is_drawn_with_both_its_quantities(figures):
    sides = [
        side("hpkit", [3000.0, 1000.0, 2000.0], 300_000_000, same_settings=True),
        side("Trainer", [900.0, 1000.0, 1100.0], 450_000_000, same_settings=False),
    ]
    picture = benchmark_picture(
        Benchmark("a CPU", "cpu", 2, "2026-11-23", {}, 3, 10, sides, [], {}, {})
    )
    speed, memory = figures[0].axes
    assert [patch.get_width() for patch in speed.patches] == [2000, 1000]
    # Of each side two bars: before the model was loaded, and since.
    assert [patch.get_width() for patch in memory.patches] == [100, 200, 100, 350]
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
        "Useful tokens per second and peak memory on a CPU. "
        "small, bf16: hpkit 2,000 (1,000 to 3,000), 300 MB; "
        "Trainer 1,000 (900 to 1,100), 450 MB."
    )
