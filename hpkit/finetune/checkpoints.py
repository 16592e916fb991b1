"""A run's folder: may a run begin or go on there, and which checkpoint is whole?

The folder fills in this order: `started.json` (what was asked for), samples and loss before,
checkpoints, samples and model after, and last of all `run.json`. A folder with `run.json` holds a
finished run.
"""

import dataclasses
import json
import os
import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpkit.adapters import adapter_bytes, beside, is_adapted, load_adapter
from hpkit.errors import BadInput
from hpkit.files import write_whole
from hpkit.finetune import processes
from hpkit.finetune.run import logged_history
from hpkit.finetune.samples import Evaluation
from hpkit.finetune.throughput import AUTO, Throughput
from hpkit.finetune.training import Job, Trained
from hpkit.formatting import shown
from hpkit.memory import all_parameters, checkpoint_bytes, weight_bytes
from hpkit.model import load_model
from hpkit.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """What a run is asked to do; `processes` of them train together.

    `eval_corpus`: the text to evaluate on; None: what is held out of `corpus`. `text_column`: which
    columns hold the text of both, as `load_corpus` takes it. `merge`: whether an adapter is added
    to the weights in the end. Raises BadInput where there is no adapter to add.
    """

    recipe: Recipe
    model: str
    corpus: str
    processes: int = 1
    throughput: Throughput = AUTO
    eval_corpus: str | None = None
    text_column: str | None = None
    merge: bool = False

    def __post_init__(self):
        if self.merge and self.recipe.lora_r is None:
            raise BadInput(
                "merge: adds an adapter to the model's weights, and without lora_r there is none; "
                "give lora_r, 16 for instance, or leave merge out"
            )


@dataclass(frozen=True)
class Started:
    """What `started.json` holds: the request, and what the run found before its first update.

    `corpus_fingerprint` and `eval_corpus_fingerprint`: of the texts it met; `before` is None until
    the model has been measured.
    """

    request: Request
    corpus_fingerprint: str
    before: Evaluation | None = None
    eval_corpus_fingerprint: str | None = None

    def write(self, out: Path) -> None:
        """Leave `started.json` in the folder of the run."""
        values = dataclasses.asdict(self.request)
        values["corpus_fingerprint"] = self.corpus_fingerprint
        values["eval_corpus_fingerprint"] = self.eval_corpus_fingerprint
        if self.before is not None:
            for name, value in self.before._asdict().items():
                values[f"{name}_before"] = value
        write_whole(out / "started.json", json.dumps(values, indent=1))


def read_started(out: Path, base: Recipe | None = None) -> Started:
    """What the unfinished run in `out` was asked to do. Raises BadInput where there is none.

    Older versions wrote neither `processes` nor `throughput` nor `eval_corpus`: one process was
    meant, nothing asked of its speed, and some of the corpus held out. Hyperparameters that they
    did not know are those of `base`, else transformers' defaults.
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
            eval_corpus=values.get("eval_corpus"),
            text_column=values.get("text_column"),
            merge=values.get("merge", False),
        )
        before = None
        if "eval_loss_before" in values:
            # What has a default is what was perhaps not measured, or not yet known to that version.
            others = {name: values.get(f"{name}_before") for name in Evaluation._field_defaults}
            before = Evaluation(values["eval_loss_before"], **others)
        return Started(
            request,
            values["corpus_fingerprint"],
            before,
            eval_corpus_fingerprint=values.get("eval_corpus_fingerprint"),
        )
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
    place = _nearest_existing(out)
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise BadInput(
            f"out {out} cannot be written: {place} is no folder to write in; choose another out"
        )
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
    for name in ("model", "corpus", "eval_corpus", "text_column", "merge"):
        if getattr(now, name) != getattr(before, name):
            raise BadInput(
                f"resume with another {name}: the run in {out} has {shown(getattr(before, name))}, "
                f"now it is {shown(getattr(now, name))}"
            )
    if now.processes != before.processes:
        raise BadInput(
            f"resume with another number of processes: the run in {out} has {before.processes}, "
            f"now there are {now.processes}, and each update would see another batch; start "
            f"{before.processes} of them, or choose another out"
        )


def start_folder(out: Path, request: Request, job: Job) -> Started:
    """Write `started.json` for a new run; of a resumed one return what it says, corpus compared."""
    found = Started(request, job.corpus.fingerprint)
    if job.corpus.evaluation is not None:
        evaluation = job.corpus.evaluation.fingerprint
        found = dataclasses.replace(found, eval_corpus_fingerprint=evaluation)
    if (out / "started.json").exists():
        started = read_started(out, base=request.recipe)
        for name in ("corpus", "eval_corpus"):
            fingerprint = f"{name}_fingerprint"
            if getattr(started, fingerprint) != getattr(found, fingerprint):
                raise BadInput(
                    f"resume: {name} {getattr(request, name)} has changed since the run in {out} "
                    "began; choose another out"
                )
        return started
    check_room(out, disk_of(job, request.merge))
    found.write(out)
    return found


class Disk(NamedTuple):
    """Bytes that a run writes: the model once, and each checkpoint; `checkpoints` of them stay.

    `model`: adapter and merged model are both in it.
    """

    model: int
    checkpoint: int
    checkpoints: int

    @property
    def left(self) -> int:
        """What lies in the folder in the end."""
        return self.model + self.checkpoints * self.checkpoint

    @property
    def needed(self) -> int:
        """The same with one more checkpoint, which is written before one is deleted."""
        return self.left + self.checkpoint


def disk_of(job: Job, merge: bool = False) -> Disk:
    """What the run will write, small files left out; `merge` as `finetune` takes it."""
    try:
        each = checkpoint_bytes(job.model, job.recipe.replace(optim=job.capability.optim))
    except BadInput:  # of an optimizer whose states nobody predicts, most hold no more than AdamW
        each = checkpoint_bytes(job.model, job.recipe.replace(optim="adamw_torch"))
    # What is frozen is not saved, but for a merged model.
    model = adapter_bytes(job.model)
    if model is None:
        model = sum(weight.nbytes for weight in job.model.parameters())
    if merge:
        base = all_parameters(job.model, job.recipe)
        model += weight_bytes([p for p in base if not p.trained], job.recipe.dtype)
    return Disk(model, each, len(job.accounting.checkpoints))


def check_room(out: Path, disk: Disk) -> None:
    """Raise BadInput where the run would not fit on the disk of `out`."""
    free = shutil.disk_usage(_nearest_existing(out)).free
    if free < disk.needed:
        raise BadInput(
            f"no space left on the device of {out}: the run needs {disk.needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free"
        )


def _nearest_existing(out: Path) -> Path:
    """`out`, or the nearest place above it that is there already."""
    return next(place for place in (out, *out.absolute().parents) if place.exists())


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


def with_weights_of(checkpoint: Path, job: Job) -> Job:
    """The job whose model has the weights that a checkpoint holds, of an adapter those alone."""
    if is_adapted(job.model):
        load_adapter(job.model, checkpoint)
        return job
    model, _ = load_model(str(checkpoint), job.recipe.dtype)
    return dataclasses.replace(job, model=model)


def save_model(trainer, out: Path) -> None:
    """Leave the model, or its adapter, in `out`/model, whole or not at all."""
    # transformers writes file by file; a folder renamed at the end is whole or not there.
    part = out / "model.part"
    processes.from_main(lambda: shutil.rmtree(part, ignore_errors=True))
    # By every process: where the weights are spread over them, each has a part.
    trainer.save_model(str(part))

    def publish():
        (part / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json says the same
        _put_in_place(part, out / "model")

    processes.from_main(publish)


def save_merged(job: Job, out: Path) -> None:
    """Leave the model with the adapter of `out`/model added to its weights in `out`/merged.

    The job's own model is changed, and of no use afterwards; beside one in 4 bits, which have no
    room for what is added, it is loaded anew, in full.
    """
    model = job.model
    if job.recipe.load_in_4bit:
        base, _ = load_model(job.model_name, job.recipe.dtype)
        model = beside(base, out / "model")
    part = out / "merged.part"
    shutil.rmtree(part, ignore_errors=True)
    model.merge_and_unload().save_pretrained(part)
    job.tokenizer.save_pretrained(part)
    _put_in_place(part, out / "merged")


def _put_in_place(part: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
