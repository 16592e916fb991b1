"""A finished fine-tune: what `run.json` holds."""

import dataclasses
import importlib.metadata
import json
import math
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.recipe import Recipe

#: What the Trainer logs that a run keeps.
LOGGED = ("loss", "learning_rate", "grad_norm", "update_rms", "eval_loss", "eval_old_loss")
#: One of them is in every entry that a run keeps.
_LOSSES = ("loss", "eval_loss", "eval_old_loss")
#: What a run's figures depend on.
LIBRARIES = (
    "torch",
    "transformers",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "numpy",
    "music21",
)


@dataclass(frozen=True)
class Run:
    """A finished fine-tune. Losses in nats per token, times in seconds, memory in bytes.

    `history`: dicts with `step` and some of LOGGED. `grad_norm` is the norm before clipping,
    `update_rms` as `hpkit.finetune.watching.update_size` says. `bars_valid_*`: the share, 0 to 1,
    of bars that add up in 32 sampled tunes; None where the corpus is not tunes, nothing was
    sampled, or the model has diverged. `processes`: how many trained together; `tokens` and
    `tokens_per_second` are those of all, `peak_memory_bytes` the main one's. `tokens_per_second`
    and `train_seconds` leave out evaluations and, in a resumed run, everything before the
    resumption. `weights_norm`: length of all trained weights after the run as one vector.
    `evaluation_fingerprint`: of the tokens evaluated on; losses of two runs compare where it is the
    same. `documents` and `eval_documents`: what became of every document, as
    `hpkit.corpus.ledger.Ledger` says. `diverged_since`: the first update whose loss was no finite
    number, 0 where the model was broken before; None: all are numbers. `eval_corpus`: the text
    evaluated on; None: some of `corpus`, held out. `parameters` are all that the model has,
    `trained_parameters` those that are not frozen; `adapter_bytes`: of an adapter's weights, None
    without one. Runs of older versions lack what has a default.
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
    eval_corpus: str | None = None
    eval_old_loss_before: float | None = None
    eval_old_loss_after: float | None = None
    text_share: float | None = None
    cut_documents: int | None = None
    documents: dict | None = None
    eval_documents: dict | None = None
    diverged_since: int | None = None
    what_to_try: str | None = None
    trained_parameters: int | None = None
    adapter_bytes: int | None = None

    @property
    def diverged(self) -> bool:
        """Has a loss or a weight left the finite numbers? In JSON such a loss is null, so None
        counts.
        """
        if self.diverged_since is not None:
            return True
        values = [self.eval_loss_after, self.weights_norm or 0.0]
        values += [entry["loss"] for entry in self.history if "loss" in entry]
        return any(value is None or not math.isfinite(value) for value in values)

    def to_json(self) -> str:
        """The run as JSON text, in which a loss that is no finite number is null."""
        text = json.dumps(dataclasses.asdict(self))
        # JSON knows no NaN and no infinity, which Python writes all the same: read them back as
        # None.
        finite = json.loads(text, parse_constant=lambda name: None)
        return json.dumps(finite, indent=1) + "\n"

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Read the run that finished in `folder`. Raises BadInput where there is none, or a spoilt
        one.
        """
        file = Path(folder) / "run.json"
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(**values | {"recipe": Recipe(**values["recipe"])})
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(f"{folder} holds no run.json: no run has finished there") from None
        # A field that is missing or unknown is a TypeError of the dataclass.
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file} is damaged, or of another version: {error}") from None


def installed_versions() -> dict[str, str | None]:
    """The version of each of LIBRARIES, None where it is not installed."""
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return versions


def logged_history(state) -> list[dict]:
    """What a run keeps of a TrainerState's log: entries of a training or an evaluation loss."""
    history = []
    for entry in state.log_history:
        if any(name in entry for name in _LOSSES):
            history.append({name: entry[name] for name in ("step", *LOGGED) if name in entry})
    return history
