"""The figures of a benchmark as text."""

import statistics

from benchmark.job import BARE, CHECKED, EVERYWHERE, HPKIT, SIDES, WRAPPED
from hpkit.lessons.benchmarks import Benchmark, Measured

COLUMNS = (
    f"{'':22}{'useful tok/s':>13}{'spread':>19}{'text':>6}{'update':>10}{'peak':>10}{'idle':>9}"
    f"{'states':>10}{'MFU':>7}"
)


def table(benchmark: Benchmark) -> str:
    """All figures, one row a side; below each comparison what hpkit's rate is beside the others',
    and the losses."""
    versions = ", ".join(map(" ".join, benchmark.versions.items()))
    lines = [
        f"{benchmark.device}, {benchmark.threads} threads, {benchmark.date}; {versions}",
        f"medians of {benchmark.rounds} rounds of {benchmark.updates} updates; "
        "spread: lowest and highest round",
        "",
    ]
    lines += [f"{name}: {side.settings}" for name, side in SIDES.items()]
    for model, setup in benchmark.comparisons:
        sides = benchmark.of(model, setup)
        first = next(iter(sides.values()))
        lines += ["", f"{model}, {first.parameters / 1e6:,.1f} million parameters, {setup}"]
        lines.append(COLUMNS)
        lines += [row(side) for side in sides.values()]
        if HPKIT in sides:
            lines += ratios(benchmark, model, setup)
        lines.append(losses(sides))
    lines.append("")
    for model in benchmark.in_turns:
        lines.append(turns(benchmark, model))
    for one in benchmark.optimizers:
        held = sum(one["bytes"].values())
        lines.append(
            f"{one['model']}, {one['optim']}: a step alone {one['seconds'] * 1e3:.2f} ms, "
            f"states {held / 1e6:,.2f} MB, predicted {one['predicted_bytes'] / 1e6:,.2f} MB"
        )
    lines += [f"left out: {name}: {why}" for name, why in benchmark.left_out.items()]
    return "\n".join(lines)


def row(side: Measured) -> str:
    rates = side.useful_tokens_per_second
    spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
    used = "?" if side.flops_utilisation is None else f"{side.flops_utilisation:.1%}"
    idle = statistics.median(side.idle_memory_bytes)
    states = sum(side.optimizer_state_bytes.values())
    return (
        f"{side.side:22}{side.rate:13,.0f}{spread:>19}{side.text_share:6.0%}"
        f"{side.update_seconds * 1e3:7,.0f} ms{side.peak / 1e6:7,.0f} MB{idle / 1e6:6,.0f} MB"
        f"{states / 1e6:7,.1f} MB{used:>7}"
    )


def ratios(benchmark: Benchmark, model: str, setup: str) -> list[str]:
    """hpkit's rate beside that of the best on the same batches, and of each that pads."""
    wanted = {}
    best = benchmark.best_of_the_others(model, setup)
    if best:
        wanted[best] = 1.0
    for name, side in benchmark.of(model, setup).items():
        if not side.same_settings:
            wanted[name] = 1.5
    return [
        f"hpkit against {other}: {benchmark.ratio(model, setup, other):.2f} times "
        f"(at least {least} wanted)"
        for other, least in wanted.items()
    ]


def losses(sides: dict[str, Measured]) -> str:
    """How far the sides' losses on the shared batch are apart, update by update."""
    of_all = [side.losses for side in sides.values() if side.side != WRAPPED]
    first = of_all[0]
    apart = max(max(update) - min(update) for update in zip(*of_all))
    line = (
        f"the same tunes, {CHECKED} updates: losses {first[0]:.4f} to {first[-1]:.4f}, "
        f"sides at most {apart:.1g} apart"
    )
    if WRAPPED in sides:
        wrapped = sides[WRAPPED].losses
        line += f"; {WRAPPED}, whose documents see one another: "
        line += f"{wrapped[0]:.4f} to {wrapped[-1]:.4f}"
    return line


def turns(benchmark: Benchmark, model: str) -> str:
    seconds = benchmark.in_turns[model]
    ours, bare = (f"{statistics.median(seconds[side]) * 1e3:,.2f} ms" for side in EVERYWHERE)
    return (
        f"{model}, {len(seconds[BARE])} updates of each in turns: hpkit {ours}, {BARE} {bare}; "
        f"hpkit has {benchmark.ratio_in_turns(model):.3f} times its speed"
    )
