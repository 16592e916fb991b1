"""Pictures of runs: loss over the updates, and a tune as a piano roll."""

from hpkit.corpus import music
from hpkit.figures.base import BLUE, GREY, ORANGE, Picture, blank, rendered


def loss_picture(history: list[dict]) -> Picture:
    """Training loss, evaluation loss and learning rate over the updates of one run.

    `history` holds dicts with `step` and any of `loss`, `eval_loss`, `learning_rate`; loss in nats a token.
    """
    figure = blank(4.6)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    series = {
        name: [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]
        for name in ("loss", "eval_loss", "learning_rate")
    }
    if series["loss"]:
        top.plot(
            *zip(*series["loss"]),
            color=BLUE,
            marker=".",
            label="training (mean since the last point)",
        )
    if series["eval_loss"]:
        top.plot(
            *zip(*series["eval_loss"]),
            color=ORANGE,
            marker="s",
            linestyle="--",
            label="evaluation (held-out)",
        )
    if series["learning_rate"]:
        bottom.plot(*zip(*series["learning_rate"]), color=GREY, marker=".")
    top.set_ylabel("loss (nats per token)")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("update")
    bottom.set_ylim(bottom=0)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    if series["loss"] or series["eval_loss"]:
        top.legend(frameon=False)
    names = {
        "loss": "training loss",
        "eval_loss": "evaluation loss",
        "learning_rate": "learning rate",
    }
    parts = [
        f"{names[name]} {points[0][1]:.4g} at update {points[0][0]}, {points[-1][1]:.4g} at update {points[-1][0]}"
        for name, points in series.items()
        if points
    ]
    if series["learning_rate"]:
        step, peak = max(series["learning_rate"], key=lambda point: point[1])
        parts[-1] += f", highest {peak:.4g} at update {step}"
    return rendered(
        figure, "Loss and learning rate: " + ("; ".join(parts) or "nothing was logged") + "."
    )


def piano_roll(tune: music.Tune, title: str) -> Picture:
    """The notes of a tune as bars of a piano roll: time in eighths, pitch by name; faulty bars are hatched."""
    notes, bars = music.melody(tune), music.bars(tune)
    figure = blank(3.4)
    axes = figure.subplots()
    pitches = [pitch for pitch, _, _ in notes]
    low, high = min(pitches) - 1, max(pitches) + 1
    for bar in bars:
        axes.axvline(float(bar.start), color=GREY, linewidth=0.6, alpha=0.6)
        if bar.adds_up is False:
            start, width = float(bar.start), float(bar.duration)
            axes.axvspan(
                start, start + width, facecolor="none", edgecolor=ORANGE, hatch="//", linewidth=0
            )
    axes.barh(
        pitches,
        [length * 0.92 for _, _, length in notes],
        left=[start for _, start, _ in notes],
        height=0.8,
        color=BLUE,
    )
    names = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")
    ticks = [pitch for pitch in range(low, high + 1) if pitch in pitches]
    axes.set_yticks(ticks, [f"{names[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks], fontsize=8)
    axes.set_ylim(low, high)
    axes.set_xlim(0, float(max(bar.start + bar.duration for bar in bars)))
    axes.set_xlabel("time (eighth notes); vertical lines are bar lines")
    axes.set_ylabel("pitch")
    faulty = sum(bar.adds_up is False for bar in bars)
    axes.set_title(
        title + (f"; hatched: bars that do not add up ({faulty})" if faulty else ""),
        fontsize=10,
        loc="left",
    )
    alt = (
        f"Piano roll, {title}: {len(notes)} notes in {len(bars)} bars of {tune.meter[0]}/{tune.meter[1]} in {tune.key}, "
        f"from MIDI pitch {min(pitches)} to {max(pitches)}; bars that do not add up: {faulty}."
    )
    return rendered(figure, alt)
