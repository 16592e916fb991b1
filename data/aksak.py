"""Make data/aksak.abc: 400 synthetic tunes in 5/8, 7/8 and 9/8 from a small grammar.

Run: python data/aksak.py

Aksak ("limping") meters join groups of two and three eighths. The tunes walk along one of two
scales: D hijaz (D Eb F# G A Bb C), written as D Phrygian with a sharp before F, and A Phrygian.
They are made up by this file, from a fixed seed. They are no one's repertoire, and this project
never calls them that.
"""

import random
from pathlib import Path

METERS = {5: ((2, 3), (3, 2)), 7: ((2, 2, 3), (3, 2, 2)), 9: ((2, 2, 2, 3),)}
# Rhythms of one group, in eighths; a repeated entry is likelier.
CELLS = {2: ((2,), (1, 1), (1, 1), (1, 0.5, 0.5)), 3: ((3,), (2, 1), (1, 1, 1), (1, 1, 1), (1, 2))}
# Scale steps from below the final to an octave above it; index 2 is the final.
SCALES = {
    "Dphr": ["B,", "C", "D", "E", "^F", "G", "A", "B", "c", "d"],
    "Aphr": ["F", "G", "A", "B", "c", "d", "e", "f", "g", "a"],
}
FINAL = 2
# Which bars of half a section are the same.
SHAPES = ((0, 1, 0, 2), (0, 0, 1, 2), (0, 1, 1, 2), (0, 1, 2, 2))


def length(eighths: float) -> str:
    """A duration as ABC writes it behind a note whose unit is an eighth."""
    if eighths == 0.5:
        return "/"
    if eighths == 1:
        return ""
    return f"{eighths:g}"


def bar(
    draw: random.Random, scale: list[str], groups: tuple[int, ...], degree: int
) -> tuple[str, int]:
    """One bar that starts on `degree`, and the degree where the next one goes on."""
    notes = []
    for group in groups:
        for duration in draw.choice(CELLS[group]):
            notes.append(scale[degree] + length(duration))
            # Neighbours are likelier than leaps; at an end of the scale the tune stays.
            step = draw.choice((-2, -1, -1, 0, 1, 1, 2))
            degree = min(max(degree + step, 0), len(scale) - 1)
    return "".join(notes), degree


def section(draw: random.Random, scale: list[str], groups: tuple[int, ...], start: int) -> str:
    """Eight bars between repeat signs, built from three different ones, closing on the final."""
    motifs = []
    degree = start
    for _ in range(3):
        text, degree = bar(draw, scale, groups, degree)
        motifs.append(text)
    first_half = [motifs[number] for number in draw.choice(SHAPES)]
    second_half = [motifs[number] for number in draw.choice(SHAPES)]
    # The last group of the last bar is the final, and the step above it leads there.
    lead = scale[FINAL + 1] + length(sum(groups) - groups[-1])
    second_half[-1] = lead + scale[FINAL] + length(groups[-1])
    return "|:" + "|".join(first_half + second_half) + ":|"


def main() -> None:
    """Write the file beside this one."""
    # The order of the draws is part of the corpus: another one makes other tunes.
    draw = random.Random(3407)
    tunes = []
    for number in range(1, 401):
        eighths = draw.choice(tuple(METERS))
        groups = draw.choice(METERS[eighths])
        key = draw.choice(tuple(SCALES))
        # The second section starts on the fifth.
        low = section(draw, SCALES[key], groups, FINAL)
        high = section(draw, SCALES[key], groups, FINAL + 4)
        title = f"Aksak {number} ({'+'.join(map(str, groups))}, synthetic)"
        tunes.append(f"X:{number}\nT:{title}\nM:{eighths}/8\nL:1/8\nK:{key}\n{low}\n{high}\n")
    # newline: on Windows, too, the file is the same to the byte.
    Path(__file__).with_suffix(".abc").write_text("\n".join(tunes), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
