"""Pictures of runs: loss over the updates, and a tune as a piano roll."""

from collections.abc import Mapping

from hpkit.corpus import music
from hpkit.figures.base import BLUE, GREY, ORANGE, Picture, blank, rendered
from hpkit.figures.charts import Style, styles
from hpkit.formatting import plural

#: Characters of a run's name in a key.
LONGEST_NAME = 70
_PITCHES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B")


def loss_picture(history: list[dict]) -> Picture:
    """Training loss, evaluation loss and learning rate over the updates of one run.

    `history` holds dicts with `step` and any of `loss`, `eval_loss`, `learning_rate`; loss in nats
    a token.
    """
    figure = blank(4.6)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    parts = []
    training = _logged(history, "loss")
    if training:
        label = "training (mean since the last point)"
        top.plot(*zip(*training), color=BLUE, marker=".", label=label)
        parts.append(f"training loss {_first_and_last(training)}")
    evaluation = _logged(history, "eval_loss")
    if evaluation:
        look = {"color": ORANGE, "marker": "s", "linestyle": "--"}
        top.plot(*zip(*evaluation), label="evaluation (held-out)", **look)
        parts.append(f"evaluation loss {_first_and_last(evaluation)}")
    rates = _logged(history, "learning_rate")
    if rates:
        bottom.plot(*zip(*rates), color=GREY, marker=".")
        step, peak = max(rates, key=lambda point: point[1])
        ends = _first_and_last(rates)
        parts.append(f"learning rate {ends}, highest {peak:.4g} at update {step}")
    top.set_ylabel("loss (nats per token)")
    bottom.set_ylabel("learning rate")
    bottom.set_xlabel("update")
    bottom.set_ylim(bottom=0)
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    # A legend of nothing is a warning of matplotlib's.
    if training or evaluation:
        top.legend(frameon=False)
    words = "; ".join(parts) or "nothing was logged"
    return rendered(figure, f"Loss and learning rate: {words}.")


def runs_picture(histories: Mapping[str, list[dict]], note: str = "") -> Picture:
    """Evaluation loss above, training loss below, over the updates of up to six runs by name.

    Each run's line and marks tell it apart without colour. `histories` as `loss_picture` takes
    them; `note` stands behind the title of the evaluation. Raises BadInput for more than six.
    """
    figure = blank(5.6)
    panels = figure.subplots(2, sharex=True)
    titles = {
        "eval_loss": f"evaluation loss{note}",
        "loss": "training loss, mean since the last point",
    }
    parts = []
    for axes, (series, title) in zip(panels, titles.items()):
        words = []
        for (name, history), style in zip(histories.items(), styles(histories)):
            words.append(f"{name}: {_draw_run(axes, name, history, series, style)}")
        parts.append(f"{title}: {'; '.join(words)}")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylabel("nats per token")
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("update")
    lines, labels = panels[0].get_legend_handles_labels()
    # One below the other: folders have long names.
    figure.legend(lines, labels, loc="outside upper left", ncols=1, frameon=False)
    return rendered(figure, f"Losses of {len(histories)} runs. {'. '.join(parts)}.")


def _draw_run(axes, name: str, history: list[dict], series: str, style: Style) -> str:
    """One run's line, a run that logged nothing having an empty one for the legend; its words."""
    points = _logged(history, series)
    axes.plot(
        [step for step, _ in points],
        [loss for _, loss in points],
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markersize=5,
        # About 25 marks whatever the length: more would hide the line.
        markevery=max(1, len(points) // 25),
        label=_end_of(name),
    )
    lost = [entry["step"] for entry in history if series in entry and entry[series] is None]
    words = "nothing was logged"
    if len(points) == 1:
        words = "{1:.4g} at update {0}".format(*points[0])
    elif points:
        words = _first_and_last(points)
    if lost:
        words += f", no number at {plural(len(lost), 'point')} from update {lost[0]} on"
    return words


def _end_of(name: str) -> str:
    """A name for which the key has room; of a folder's long one the end tells most."""
    if len(name) <= LONGEST_NAME:
        return name
    return "…" + name[1 - LONGEST_NAME :]


def _logged(history: list[dict], name: str) -> list[tuple]:
    """(step, value) wherever `name` was logged."""
    return [(entry["step"], entry[name]) for entry in history if entry.get(name) is not None]


def _first_and_last(points: list[tuple]) -> str:
    first_step, first = points[0]
    last_step, last = points[-1]
    return f"{first:.4g} at update {first_step}, {last:.4g} at update {last_step}"


def piano_roll(tune: music.Tune, title: str) -> Picture:
    """The notes of a tune as bars of a piano roll: time in eighths, pitch by name.

    Faulty bars, those that do not add up, are hatched.
    """
    notes = music.melody(tune)
    bars = music.bars(tune)
    pitches = [pitch for pitch, _, _ in notes]
    faulty = sum(bar.adds_up is False for bar in bars)
    figure = blank(3.4)
    axes = figure.subplots()
    _draw_bar_lines(axes, bars)
    axes.barh(
        pitches,
        # A little shorter than they sound, so that a note repeated is two bars and not one.
        [length * 0.92 for _, _, length in notes],
        left=[start for _, start, _ in notes],
        height=0.8,
        color=BLUE,
    )
    _name_pitches(axes, pitches)
    axes.set_xlim(0, float(max(bar.start + bar.duration for bar in bars)))
    axes.set_xlabel("time (eighth notes); vertical lines are bar lines")
    axes.set_ylabel("pitch")
    heading = title
    if faulty:
        heading += f"; hatched: bars that do not add up ({faulty})"
    axes.set_title(heading, fontsize=10, loc="left")
    beats, unit = tune.meter
    alt = (
        f"Piano roll, {title}: {len(notes)} notes in {len(bars)} bars of {beats}/{unit} "
        f"in {tune.key}, from MIDI pitch {min(pitches)} to {max(pitches)}; "
        f"bars that do not add up: {faulty}."
    )
    return rendered(figure, alt)


def _draw_bar_lines(axes, bars: list) -> None:
    for bar in bars:
        start = float(bar.start)  # music counts in fractions, which matplotlib does not know
        end = start + float(bar.duration)
        axes.axvline(start, color=GREY, linewidth=0.6, alpha=0.6)
        # None is no fault: an upbeat, say, need not add up.
        if bar.adds_up is False:
            axes.axvspan(start, end, facecolor="none", edgecolor=ORANGE, hatch="//", linewidth=0)


def _name_pitches(axes, pitches: list[int]) -> None:
    """Only pitches that occur have a tick; MIDI's 60 is C4."""
    ticks = sorted(set(pitches))
    names = [f"{_PITCHES[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks]
    axes.set_yticks(ticks, names, fontsize=8)
    axes.set_ylim(min(pitches) - 1, max(pitches) + 1)
