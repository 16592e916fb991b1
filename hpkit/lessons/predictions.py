"""What a reader predicted before the answer was shown: scored, kept in a local file, summed up.

The widget that asks is in `widgets/prediction.py`.
"""

import itertools
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import cache_folder, write_whole
from hpkit.formatting import plural

#: With fewer predictions, a share says little about the reader.
FEW = 20


@dataclass(frozen=True)
class Score:
    """How far a guess was from the answer.

    `error`: of numbers the mean distance, relative where asked for; of an order the share of pairs
    the wrong way round. `within`: whether it is at most the tolerance. `signed`: by how many
    tolerances the guess was too high, on average, negative for too low; None for an order. `pairs`:
    (right, all) of an order.
    """

    error: float
    within: bool
    signed: float | None = None
    pairs: tuple[int, int] | None = None


@dataclass(frozen=True)
class Question:
    """What is asked: a number, a curve or an order.

    A number lies from `low` to `high`, and so does each point of a curve, which has one at each of
    `steps`; an order is one of the names in `order`. `tolerance` says when a guess is good: its
    distance from the answer, as a share of it where `relative`, the mean of a curve's; of an order,
    the share of pairs that may be wrong. `name` is what the guess is kept under. Raises BadInput.
    """

    name: str
    text: str
    low: float = 0.0
    high: float = 1.0
    tolerance: float = 0.0
    relative: bool = False
    steps: tuple[float, ...] = ()
    order: tuple[str, ...] = ()

    def __post_init__(self):
        # Lists are welcome, and a frozen dataclass is set in this way only.
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "order", tuple(self.order))
        for names in (self.steps, self.order):
            if len(names) == 1 or len(set(names)) != len(names):
                raise BadInput(
                    f"prediction {self.name}: expected two or more that differ, got {names!r}"
                )
        if not self.order and not (self.low < self.high and self.tolerance > 0):
            expected = "expected low below high, and a tolerance above 0"
            got = f"{self.low}, {self.high}, {self.tolerance}"
            raise BadInput(f"prediction {self.name}: {expected}; got {got}")

    def values(self, given) -> tuple:
        """A guess or an answer as a tuple, of one number where a number is asked for.

        Raises BadInput for what is neither.
        """
        try:
            if self.order:
                values = tuple(given)
                right = sorted(values) == sorted(self.order)
            else:
                values = self._numbers(given)
                right = len(values) == (len(self.steps) or 1) and all(map(math.isfinite, values))
        except (TypeError, ValueError):  # no sequence, no number, names mixed with numbers
            right = False
        if not right:
            raise BadInput(f"prediction {self.name}: expected {self._expected()}, got {given!r}")
        return values

    def _numbers(self, given) -> tuple[float, ...]:
        # A stored guess is a tuple even where it is a single number.
        if self.steps or isinstance(given, tuple):
            return tuple(float(value) for value in given)
        return (float(given),)

    def _expected(self) -> str:
        if self.order:
            return f"{', '.join(self.order)} in some order"
        if self.steps:
            return f"{len(self.steps)} finite numbers"
        return "a finite number"

    def score(self, guess: tuple, truth: tuple) -> Score:
        """Both as `values` gives them. Raises BadInput for a relative distance from 0."""
        if self.order:
            return self._score_order(guess, truth)
        if self.relative and 0 in truth:
            expected = "expected an answer other than 0, from which nothing has a relative distance"
            raise BadInput(f"prediction {self.name}: {expected}")
        distances = []
        for guessed, true in zip(guess, truth):
            distance = guessed - true
            if self.relative:
                distance /= abs(true)
            distances.append(distance)
        error = statistics.fmean(map(abs, distances))
        return Score(
            error=error,
            within=error <= self.tolerance,
            signed=statistics.fmean(distances) / self.tolerance,
        )

    def _score_order(self, guess: tuple, truth: tuple) -> Score:
        pairs = list(itertools.combinations(guess, 2))
        right = sum(truth.index(first) < truth.index(second) for first, second in pairs)
        return Score(
            error=1 - right / len(pairs),
            # Counted in pairs: the error is rounded, and could miss the tolerance by a last digit.
            within=len(pairs) - right <= self.tolerance * len(pairs),
            pairs=(right, len(pairs)),
        )

    def verdict(self, score: Score) -> str:
        """The score in words."""
        verdict = "within the tolerance"
        if not score.within:
            verdict = f"not {verdict}"
        if score.pairs:
            right, pairs = score.pairs
            return f"{right} of {pairs} pairs in the right order: {verdict}"
        error = self._shown_distance(score.error)
        tolerance = self._shown_distance(self.tolerance)
        return f"Your guess was {error} {self._side(score)}: {verdict} of {tolerance}"

    def _shown_distance(self, distance: float) -> str:
        if self.relative:
            return f"{100 * distance:.3g} %"
        return f"{distance:.4g}"

    def _side(self, score: Score) -> str:
        if self.steps:  # a curve may be too high here and too low there
            return "away from the answer on average"
        if not score.signed:
            return "away"
        if score.signed > 0:
            return "too high"
        return "too low"

    def keep(self, guess: tuple, truth: tuple | None, score: Score | None) -> None:
        """Store the guess. A damaged file is put aside first, not overwritten. Raises OSError."""
        kept = _stored()
        file = _file()
        if not kept and file.is_file():
            file.replace(file.with_suffix(".damaged.json"))
        entry = {
            "text": self.text,
            "guess": guess,
            "truth": truth,
            "score": score and asdict(score),
        }
        write_whole(file, json.dumps(kept | {self.name: entry}, indent=1))

    def kept(self) -> tuple[tuple | None, tuple | None]:
        """The guess and the answer stored for this question, None where there is none that fits."""
        entry = _stored().get(self.name, {})
        # Under the same name another text may have been asked, in an older version or notebook.
        if entry.get("text") != self.text:
            return None, None
        guess = self._kept_values(entry, "guess")
        if guess is None:
            return None, None
        return guess, self._kept_values(entry, "truth")

    def _kept_values(self, entry: dict, part: str) -> tuple | None:
        try:
            return self.values(tuple(entry[part]))
        except (KeyError, TypeError, BadInput):  # missing, null as before the answer, or damaged
            return None


def _file() -> Path:
    return cache_folder() / "predictions.json"


def _stored() -> dict[str, dict]:
    """All kept predictions by name; none where the file is missing or damaged."""
    try:
        entries = json.loads(_file().read_text(encoding="utf-8"))
        return {name: entry for name, entry in entries.items() if isinstance(entry, dict)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


@dataclass(frozen=True)
class Calibration:
    """How well the reader predicts: `within` of `n` answered ones.

    `signed`: mean of Score.signed, None without any.
    """

    n: int
    within: int
    signed: float | None

    def __str__(self) -> str:
        if not self.n:
            return "No prediction has been answered yet"
        answered = plural(self.n, "prediction")
        share = f"{self.within / self.n:.0%}"
        words = f"n = {answered} so far: {self.within} within tolerance ({share})"
        if self.signed is not None:
            side = "high" if self.signed > 0 else "low"
            words += f"; numbers were {abs(self.signed):.2g} tolerances too {side} on average"
        if self.n < FEW:
            words += f". So few prove little about you: wait for {FEW}"
        return words


def calibration() -> Calibration:
    """The summary over all stored predictions that have been answered."""
    within = []
    signed = []
    for entry in _stored().values():
        score = entry.get("score")
        # Null before the answer; and anything at all in a file that somebody has edited.
        if not isinstance(score, dict) or not isinstance(score.get("within"), bool):
            continue
        distance = score.get("signed")
        if distance is None:  # of an order
            within.append(score["within"])
        elif isinstance(distance, (float, int)):
            within.append(score["within"])
            signed.append(distance)
    mean = statistics.fmean(signed) if signed else None
    return Calibration(n=len(within), within=sum(within), signed=mean)
