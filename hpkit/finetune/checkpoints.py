"""A run's folder: may a run begin or go on there, and which checkpoint is whole?

The folder fills in this order: `started.json` (what was asked for), samples and loss before,
checkpoints, samples and model after, and last of all `run.json`. A folder with `run.json` holds a
finished run.
"""

import dataclasses
import json
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput
from hpkit.files import write_whole
from hpkit.finetune import processes
from hpkit.finetune.run import logged_history
from hpkit.finetune.samples import Evaluation
from hpkit.finetune.throughput import AUTO, Throughput
from hpkit.finetune.training import Job, Trained
from hpkit.memory import checkpoint_bytes
from hpkit.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """What a run is asked to do; `processes` of them train together."""

    recipe: Recipe
    model: str
    corpus: str
    processes: int = 1
    throughput: Throughput = AUTO


@dataclass(frozen=True)
class Started:
    """What `started.json` holds: the request, and what the run found before its first update.

    `corpus_fingerprint`: of the text it met; `before` is None until the model has been measured.
    """

    request: Request
    corpus_fingerprint: str
    before: Evaluation | None = None

    def write(self, out: Path) -> None:
        """Leave `started.json` in the folder of the run."""
        values = dataclasses.asdict(self.request)
        values["corpus_fingerprint"] = self.corpus_fingerprint
        if self.before is not None:
            for name, value in self.before._asdict().items():
                values[f"{name}_before"] = value
        write_whole(out / "started.json", json.dumps(values, indent=1))


def read_started(out: Path, base: Recipe | None = None) -> Started:
    """What the unfinished run in `out` was asked to do. Raises BadInput where there is none.

    Older versions wrote neither `processes` nor `throughput`: one process was meant, and nothing
    asked of its speed. Hyperparameters that they did not know are those of `base`, else
    transformers' defaults.
    """
    try:
        values = dict(json.loads((out / "started.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise BadInput(
            f"resume: nothing to resume in {out}: it holds no started.json of an unfinished run"
        ) from None
    try:
        request = Request(
            recipe=(base or Recipe()).replace(**values["recipe"]),
            model=values["model"],
            corpus=values["corpus"],
            processes=values.get("processes", 1),
            throughput=Throughput(**values.get("throughput", {})),
        )
        before = None
        if "eval_loss_before" in values:
            before = Evaluation(**{name: values[f"{name}_before"] for name in Evaluation._fields})
        return Started(request, values["corpus_fingerprint"], before)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        # BadInput is a ValueError: a hyperparameter of another time, or a value that nobody takes.
        raise BadInput(
            f"resume: nothing to resume in {out}: its started.json was edited, or is of another "
            f"version ({error})"
        ) from None


# Before the run: may it begin here, and is there room for it.


def check_folder(out: Path, request: Request, resume: bool) -> None:
    """Raise BadInput unless `out` is new, or holds an unfinished run of this request."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"out {out} is a file: expected a new or empty folder")
    # A file cut short by a kill ends in .part, and is nobody's.
    content = []
    if out.is_dir():
        content = [file.name for file in out.iterdir() if not file.name.endswith(".part")]
    if not resume:
        if content:
            raise BadInput(
                f"out {out} is not empty: choose another folder, or continue the run in it "
                "with resume"
            )
        return
    if "run.json" in content:
        raise BadInput(
            f"resume: nothing to resume, the run in {out} is finished; choose another out for a "
            "new one"
        )
    _check_same_request(out, read_started(out, base=request.recipe).request, request)


def _check_same_request(out: Path, before: Request, now: Request) -> None:
    """Raise BadInput where a resumed run would be another. What makes it fast may change."""
    recipe = vars(now.recipe)
    for name, value in vars(before.recipe).items():
        if recipe[name] != value:
            raise BadInput(
                f"resume with another recipe: the run in {out} has {name} {value}, now it is "
                f"{recipe[name]}; leave the recipe as it was, or choose another out"
            )
    for name in ("model", "corpus"):
        if getattr(now, name) != getattr(before, name):
            raise BadInput(
                f"resume with another {name}: the run in {out} has {getattr(before, name)}, "
                f"now it is {getattr(now, name)}"
            )
    if now.processes != before.processes:
        raise BadInput(
            f"resume with another number of processes: the run in {out} has {before.processes}, "
            f"now there are {now.processes}, and each update would see another batch; start "
            f"{before.processes} of them, or choose another out"
        )


def start_folder(out: Path, request: Request, job: Job) -> Started:
    """Write `started.json` for a new run; of a resumed one return what it says, corpus compared."""
    fingerprint = job.corpus.fingerprint
    if (out / "started.json").exists():
        started = read_started(out, base=request.recipe)
        if started.corpus_fingerprint != fingerprint:
            raise BadInput(
                f"resume: corpus {request.corpus} has changed since the run in {out} began; "
                "choose another out"
            )
        return started
    # `out` itself may not exist yet: nothing is written before there is room.
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    needed = _disk_needed(job)
    if free < needed:
        raise BadInput(
            f"no space left on the device of {out}: the run needs {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free"
        )
    started = Started(request, fingerprint)
    started.write(out)
    return started


def _disk_needed(job: Job) -> int:
    """Bytes: the model once, each checkpoint that stays, and one more, written before one is
    deleted.
    """
    try:
        each = checkpoint_bytes(job.model, job.recipe.replace(optim=job.capability.optim))
    except BadInput:  # of an optimizer whose states nobody predicts, most hold no more than AdamW
        each = checkpoint_bytes(job.model, job.recipe.replace(optim="adamw_torch"))
    model = sum(weight.nbytes for weight in job.model.parameters())
    return model + (len(job.accounting.checkpoints) + 1) * each


# Checkpoints, as the Trainer writes them.


def last_whole_checkpoint(out: Path, say, process_count: int = 1) -> Path | None:
    """The newest checkpoint that is whole; each newer one that was cut short is named and passed
    over.
    """
    found = [
        folder
        for folder in out.glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", folder.name)
    ]
    for checkpoint in sorted(found, key=update_of, reverse=True):
        fault = checkpoint_fault(checkpoint, process_count)
        if fault is None:
            return checkpoint
        say(f"{checkpoint.name} was cut short ({fault}): passed over")
    return None


def checkpoint_fault(checkpoint: Path, process_count: int = 1) -> str | None:
    """What is missing or cut short in a checkpoint, or None. The Trainer writes
    `trainer_state.json` last.

    Each of several processes writes its own random state, and may do so later than the main one
    writes all else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "trainer_state.json"
    weights = list(checkpoint.glob("*.safetensors"))
    if not weights:
        return "model.safetensors"
    for file in weights:
        try:
            with safe_open(file, framework="pt"):  # knows its own length
                pass
        except (SafetensorError, OSError):
            return file.name
    states = ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
    if process_count > 1:
        states[2:] = [f"rng_state_{rank}.pth" for rank in range(process_count)]
    for name in states:
        # torch's files are zip archives, whose directory stands at the end.
        if not zipfile.is_zipfile(checkpoint / name):
            return name
    return None


def update_of(checkpoint: Path) -> int:
    """After which update a checkpoint was written; its folder is called `checkpoint-<update>`."""
    return int(checkpoint.name.rsplit("-", 1)[1])


def restored(trainer, checkpoint: Path) -> Trained:
    """What `fit` would give where `checkpoint` is that of the last update: nothing is left to
    train.
    """
    import torch
    from transformers import TrainerState

    trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    history = logged_history(trainer.state)
    return Trained(history, seconds=0.0, tokens=0, optimizer_state=saved["state"])


def save_model(trainer, out: Path) -> None:
    """Leave the model in `out`/model, whole or not at all."""
    # transformers writes file by file; a folder renamed at the end is whole or not there.
    part = out / "model.part"
    processes.from_main(lambda: shutil.rmtree(part, ignore_errors=True))
    # By every process: where the weights are spread over them, each has a part.
    trainer.save_model(str(part))

    def publish():
        (part / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json says the same
        shutil.rmtree(out / "model", ignore_errors=True)
        part.rename(out / "model")

    processes.from_main(publish)
