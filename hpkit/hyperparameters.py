"""The card of every hyperparameter: what `hpkit explain`, the command's help and the tables say.

The cards themselves are in `data/hyperparameters.toml`. Their defaults are those of transformers
5.23's TrainingArguments; a test compares them with the installed version.
"""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import data_folder, read_toml
from hpkit.formatting import shown

#: The schedules of transformers; a test compares them with the installed version.
SCHEDULERS = (
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
    "greedy",
)
_STRATEGIES = ("no", "steps", "epoch")
_DTYPES = ("float32", "bfloat16")
_COMPUTE_DTYPES = (*_DTYPES, "float16")
#: What the notes do not name.
NOT_IN_NOTES = "not in the notes"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What one hyperparameter is, what three parties set it to, and what we found.

    `default` is transformers' own, or peft's, `notes` the notes' value, `starter` ours; `why` is
    empty only where ours equals the notes'. Where the notes do not name it, `in_notes` is false and
    `notes` the default. `expected` says in words what `valid` accepts. `practice`: where
    to start, by case; `symptoms`: what a reader sees that calls for a change here, with the change.
    """

    name: str
    unit: str
    what: str
    default: object
    notes: object
    starter: object
    why: str = ""
    verdict: str
    source: str
    notebook: str
    expected: str
    valid: Callable[[object], bool]
    practice: str = ""
    symptoms: dict[str, str] = field(default_factory=dict)
    in_notes: bool = True

    @property
    def notes_in_words(self) -> str:
        """The notes' value as a table shows it."""
        return shown(self.notes) if self.in_notes else NOT_IN_NOTES

    @property
    def reason(self) -> str:
        """Why ours is what it is, in words."""
        whose = "the notes' value" if self.in_notes else "the default"
        return self.why or f"{whose} does no harm"


# Whether a value is of a kind. To Python True is 1, and a count of True examples is a mistake: the
# numbers refuse it.


def _is_whole(value, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= low


def _is_count(value) -> bool:
    return _is_whole(value, 1)


def _is_finite_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value) -> bool:
    return _is_finite_number(value) and 0 <= value < 1


def _is_not_negative(value) -> bool:
    return _is_finite_number(value) and value >= 0


def _is_positive(value) -> bool:
    return _is_finite_number(value) and value > 0


def _is_interval(value) -> bool:
    # transformers counts updates from 1 on, and below it takes the value as a share of the run.
    return _is_count(value) or (_is_finite_number(value) and 0 < value < 1)


class _Accepted(NamedTuple):
    """The values that a hyperparameter may have: in words, which errors quote, and as a check."""

    expected: str
    valid: Callable[[object], bool]


_INTERVAL = "a whole number of updates from 1, or a share of the run between 0 and 1"

#: What a card can accept, by the name that `accepts` has in `data/hyperparameters.toml`.
ACCEPTED = {
    "switch": _Accepted("true or false", lambda v: isinstance(v, bool)),
    "share": _Accepted("a number from 0 to below 1", _is_share),
    "not negative": _Accepted("a number of 0 or more", _is_not_negative),
    "positive": _Accepted("a number above 0", _is_positive),
    "count": _Accepted("a whole number of 1 or more", _is_count),
    "count or -1": _Accepted(
        "-1, or a whole number of 1 or more", lambda v: v == -1 or _is_count(v)
    ),
    "count or none": _Accepted(
        "a whole number of 1 or more, or none for all", lambda v: v is None or _is_count(v)
    ),
    "length or none": _Accepted(
        "a whole number of 2 or more, or none for the model's maximum",
        lambda v: v is None or _is_whole(v, 2),
    ),
    "interval": _Accepted(_INTERVAL, _is_interval),
    "interval or none": _Accepted(
        f"{_INTERVAL}, or none for logging_steps", lambda v: v is None or _is_interval(v)
    ),
    "strategy": _Accepted(f"one of {', '.join(_STRATEGIES)}", lambda v: v in _STRATEGIES),
    "scheduler": _Accepted(f"one of {', '.join(SCHEDULERS)}", lambda v: v in SCHEDULERS),
    "table or none": _Accepted(
        'a table of names and values, on the command line as JSON: {"num_cycles": 2}',
        lambda v: v is None or isinstance(v, dict),
    ),
    # Which optimizers there are, transformers knows, and it takes seconds to import.
    "optimizer": _Accepted("the name of an optimizer", lambda v: isinstance(v, str) and v != ""),
    "dtype": _Accepted("float32 or bfloat16", lambda v: v in _DTYPES),
    "compute dtype": _Accepted(
        f"one of {', '.join(_COMPUTE_DTYPES)}", lambda v: v in _COMPUTE_DTYPES
    ),
    "count or no adapter": _Accepted(
        "a whole number of 1 or more, or none for no adapter", lambda v: v is None or _is_count(v)
    ),
    "modules": _Accepted(
        "all-linear, attention, mlp, or names of layers parted by commas",
        lambda v: isinstance(v, str) and v.strip(", ") != "",
    ),
    "seed": _Accepted(
        "a whole number from 0 to 4294967295", lambda v: _is_whole(v, 0) and v < 2**32
    ),
}


def load_cards(file: str | Path | None = None) -> dict[str, Card]:
    """The cards by name, in the file's order; by default the project's. Raises BadInput."""
    file = Path(file) if file else data_folder() / "hyperparameters.toml"
    return {name: _card(name, table) for name, table in read_toml(file, "cards").items()}


def _card(name: str, table: dict) -> Card:
    kind = table.pop("accepts", None)
    if kind not in ACCEPTED:
        raise BadInput(
            f"card {name}: expected accepts = one of {', '.join(ACCEPTED)}, got {kind!r}"
            f"{did_you_mean(str(kind), ACCEPTED)}"
        )
    accepted = ACCEPTED[kind]
    table.setdefault("in_notes", "notes" in table)
    table.setdefault("notes", table.get("default"))
    # TOML has no word for Python's None; the cards write none, as the command line does.
    for party in ("default", "notes", "starter"):
        if table.get(party) == "none":
            table[party] = None
    try:
        return Card(name=name, expected=accepted.expected, valid=accepted.valid, **table)
    except TypeError as error:  # a key that is missing, or one too many: Python says which
        raise BadInput(f"card {name}: {error}") from None


CARDS = load_cards()


def recipe_table() -> str:
    """The recipe as a Markdown table: hyperparameter, the notes' value, ours, why."""
    rows = ["| hyperparameter | notes | ours | why |", "|---|---|---|---|"]
    for card in CARDS.values():
        why = card.why or ("the same" if card.in_notes else "the default")
        rows.append(f"| `{card.name}` | {card.notes_in_words} | {shown(card.starter)} | {why} |")
    return "\n".join(rows)


def explained(name: str, width: int) -> str:
    """All that the card of a hyperparameter says, in lines of `width`. Raises BadInput."""
    if name not in CARDS:
        raise BadInput(
            f"unknown hyperparameter {name!r}{did_you_mean(name, CARDS)}; `hpkit explain` lists all"
        )
    card = CARDS[name]
    rows = {
        "what": card.what,
        "unit": card.unit,
        "accepts": card.expected,
        "default": shown(card.default),
        "notes": card.notes_in_words,
        "ours": shown(card.starter),
        "why": card.reason,
        "verdict": card.verdict,
        "practice": card.practice,
        "source": card.source,
        "notebook": card.notebook,
    }
    lines = []
    for title, text in rows.items():
        if text:
            first = f"{title:9} "
            rest = " " * len(first)
            lines.append(textwrap.fill(text, width, initial_indent=first, subsequent_indent=rest))
    return "\n".join(lines)


def all_explained(width: int) -> str:
    """Every hyperparameter: the notes' value, ours, and the reason where they differ."""
    lines = ["hyperparameter: the notes' value -> ours, with the reason where they differ\n"]
    for name, card in CARDS.items():
        text = f"{name}: {card.notes_in_words}"
        if card.why:
            text += f" -> {shown(card.starter)}: {card.why}"
        lines.append(textwrap.fill(text, width, subsequent_indent="    "))
    return "\n".join(lines)
