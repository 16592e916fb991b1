"""What a reader predicted before the answer was shown: scored, kept in a local file, summed up. The widget is in widgets."""

import itertools
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import cache_folder, write_whole

#: With fewer predictions, a share says little about the reader.
FEW = 20


@dataclass(frozen=True)
class Score:
    """How far a guess was from the answer.

    `error`: of numbers the mean distance, relative where asked for; of an order the share of pairs the wrong way round.
    `within`: whether it is at most the tolerance. `signed`: by how many tolerances the guess was too high, on average,
    negative for too low; None for an order. `pairs`: (right, all) of an order.
    """

    error: float
    within: bool
    signed: float | None = None
    pairs: tuple[int, int] | None = None


@dataclass(frozen=True)
class Question:
    """What is asked: a number from `low` to `high`, a curve between them at each of `steps`, or an order of the names in `order`.

    `tolerance` says when a guess is good: its distance from the answer, as a share of it where `relative`, the mean of a
    curve's; of an order, the share of pairs that may be wrong. `name` is what the guess is kept under. Raises BadInput.
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
        object.__setattr__(self, "steps", tuple(self.steps))
        object.__setattr__(self, "order", tuple(self.order))
        for names in (self.steps, self.order):
            if len(names) == 1 or len(set(names)) != len(names):
                raise BadInput(
                    f"prediction {self.name}: expected two or more that differ, got {names!r}"
                )
        if not self.order and not (self.low < self.high and self.tolerance > 0):
            got = f"{self.low}, {self.high}, {self.tolerance}"
            raise BadInput(
                f"prediction {self.name}: expected low below high, and a tolerance above 0; got {got}"
            )

    def values(self, given) -> tuple:
        """A guess or an answer as a tuple, of one number where a number is asked for. Raises BadInput for what is neither."""
        expected = f"{len(self.steps)} finite numbers" if self.steps else "a finite number"
        if self.order:
            expected = f"{', '.join(self.order)} in some order"
        try:
            values = (
                tuple(given) if self.order or self.steps or isinstance(given, tuple) else (given,)
            )
            if not self.order:
                values = tuple(map(float, values))
            right = (
                sorted(values) == sorted(self.order)
                if self.order
                else len(values) == (len(self.steps) or 1)
            )
        except (TypeError, ValueError):
            right = False
        if not right or (not self.order and not all(map(math.isfinite, values))):
            raise BadInput(f"prediction {self.name}: expected {expected}, got {given!r}")
        return values

    def score(self, guess: tuple, truth: tuple) -> Score:
        """Both as `values` gives them. Raises BadInput for a relative distance from 0."""
        if self.order:
            pairs = list(itertools.combinations(guess, 2))
            right = sum(truth.index(first) < truth.index(second) for first, second in pairs)
            return Score(
                1 - right / len(pairs),
                len(pairs) - right <= self.tolerance * len(pairs),
                None,
                (right, len(pairs)),
            )
        if self.relative and 0 in truth:
            raise BadInput(
                f"prediction {self.name}: expected an answer other than 0, from which nothing has a relative distance"
            )
        apart = [
            (guessed - true) / (abs(true) if self.relative else 1)
            for guessed, true in zip(guess, truth)
        ]
        error = statistics.fmean(map(abs, apart))
        return Score(error, error <= self.tolerance, statistics.fmean(apart) / self.tolerance)

    def verdict(self, score: Score) -> str:
        """The score in words."""
        verdict = f"{'within' if score.within else 'not within'} the tolerance"
        if score.pairs:
            return f"{score.pairs[0]} of {score.pairs[1]} pairs in the right order: {verdict}"
        error, tolerance = (
            f"{100 * value:.3g} %" if self.relative else f"{value:.4g}"
            for value in (score.error, self.tolerance)
        )
        side = "away" if not score.signed else "too high" if score.signed > 0 else "too low"
        return f"Your guess was {error} {'away from the answer on average' if self.steps else side}: {verdict} of {tolerance}"

    def keep(self, guess: tuple, truth: tuple | None, score: Score | None) -> None:
        """Store the guess. A damaged file is put aside first, not overwritten. Raises OSError."""
        kept, file = _stored(), _file()
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
        """The guess and the answer that are stored for this question, each None where there is none that fits it."""
        entry = _stored().get(self.name, {})
        found = []
        for part in ("guess", "truth"):
            try:
                found.append(
                    self.values(tuple(entry[part])) if entry.get("text") == self.text else None
                )
            except (KeyError, TypeError, BadInput):
                found.append(None)
        return found[0], found[1] if found[0] else None


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
    """How well the reader predicts: `within` of `n` answered ones. `signed`: mean of Score.signed, None without any."""

    n: int
    within: int
    signed: float | None

    def __str__(self) -> str:
        if not self.n:
            return "No prediction has been answered yet"
        words = f"n = {self.n} prediction{'s' * (self.n > 1)} so far: {self.within} within tolerance ({self.within / self.n:.0%})"
        if self.signed is not None:
            words += f"; numbers were {abs(self.signed):.2g} tolerances too {'high' if self.signed > 0 else 'low'} on average"
        return words + f". So few prove little about you: wait for {FEW}" * (self.n < FEW)


def calibration() -> Calibration:
    """The summary over all stored predictions that have been answered."""
    scores = []
    for entry in _stored().values():
        score = entry.get("score")
        signed = score.get("signed") if isinstance(score, dict) else ""
        if isinstance(signed, (float, int, type(None))) and isinstance(score.get("within"), bool):
            scores.append((score["within"], signed))
    signed = [signed for _, signed in scores if signed is not None]
    return Calibration(
        len(scores),
        sum(within for within, _ in scores),
        statistics.fmean(signed) if signed else None,
    )
