"""A finished fine-tune: what `run.json` holds."""

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.recipe import Recipe

#: What the Trainer logs that a run keeps.
LOGGED = ("loss", "learning_rate", "grad_norm", "eval_loss")


@dataclass(frozen=True)
class Run:
    """A finished fine-tune, as `run.json` holds it. Losses in nats per token, times in seconds, memory in bytes.

    `history`: dicts with `step` and `loss`, `learning_rate`, `grad_norm` or `eval_loss`. `bars_valid_*`: the share, 0
    to 1, of bars that add up in 32 sampled tunes; None where the corpus is not tunes, nothing was sampled, or the model
    has diverged. `processes`: how many trained together; `tokens` and `tokens_per_second` are those of all,
    `peak_memory_bytes` the main one's. `tokens_per_second` and `train_seconds` leave out evaluations and, in a resumed
    run, everything before the resumption. `weights_norm`: length of all weights after the run as one vector.
    `evaluation_fingerprint`: of the tokens evaluated on; losses of two runs compare where it is the same. Runs of older
    versions lack what has a default.
    """

    recipe: Recipe
    model: str
    corpus: str
    corpus_fingerprint: str
    capability: dict
    versions: dict
    parameters: int
    updates: int
    tokens: int
    history: list
    eval_loss_before: float
    eval_loss_after: float
    bars_valid_before: float | None
    bars_valid_after: float | None
    tunes_parsed_before: int | None
    tunes_parsed_after: int | None
    optimizer_state_bytes: int
    optimizer_state_dtypes: dict
    train_seconds: float
    tokens_per_second: float | None
    peak_memory_bytes: int
    resumed_from: int | None
    weights_norm: float | None = None
    evaluation_fingerprint: str | None = None
    model_fingerprint: str | None = None
    processes: int = 1

    @property
    def diverged(self) -> bool:
        """Has a loss or a weight left the finite numbers? In JSON such a loss is null, so None counts too."""
        losses = [
            self.eval_loss_after,
            *(entry["loss"] for entry in self.history if "loss" in entry),
        ]
        return not all(
            value is not None and math.isfinite(value)
            for value in (*losses, self.weights_norm or 0.0)
        )

    def to_json(self) -> str:
        """The run as JSON text. JSON knows no NaN and no infinity: a loss that was one of them is null."""
        finite = json.loads(json.dumps(dataclasses.asdict(self)), parse_constant=lambda name: None)
        return json.dumps(finite, indent=1) + "\n"

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read the run that finished in `folder`. Raises BadInput where there is none."""
        try:
            values = json.loads((Path(folder) / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{folder} holds no run.json: no run has finished there") from None
        return cls(**values | {"recipe": Recipe(**values["recipe"])})
