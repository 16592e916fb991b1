"""`finetune(recipe, model, corpus, out) -> Run`: transformers' Trainer with bf16 and 8-bit AdamW, resumable.

A run's folder fills in this order: `started.json` (what was asked for), samples and loss before, checkpoints,
samples and model after, and last of all `run.json`. A folder with `run.json` holds a finished run.

`train(recipe, model, corpus) -> Run` takes the same path and leaves nothing on disk; `trained` returns the live Trainer.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import Accounting, account
from hpkit.capability import (
    EIGHT_BIT_ADAMW,
    Capability,
    Machine,
    decide,
    forget_32bit_overrides,
    probe,
)
from hpkit.corpus import music
from hpkit.corpus.answers import prompt_of
from hpkit.corpus.blocks import blocks_of
from hpkit.corpus.load import Corpus, load_corpus
from hpkit.errors import BadInput
from hpkit.figures import base as figures
from hpkit.files import write_whole
from hpkit.finetune import processes
from hpkit.finetune.checkpoints import (
    disk_errors_are_bad_input,
    last_whole_checkpoint,
    read_started,
    update_of,
)
from hpkit.finetune.run import LOGGED, Run
from hpkit.finetune.stopping import Interrupted, StopSignal
from hpkit.finetune.throughput import AUTO, Throughput, choose
from hpkit.memory import (
    optimizer_state_bytes,
    optimizer_states,
    parameters_of,
    peak_memory_bytes,
    reset_peak_memory,
)
from hpkit.model import context_length, likeliest, load_model, quiet_transformers, sample
from hpkit.preflight.findings import preflight
from hpkit.recipe import STARTER, Recipe
from hpkit.schedules import make_schedule

SAMPLED_TUNES = 32

#: Of a text, or of an answer to a prompt.
SAMPLED_TOKENS = 80

#: With the environment variable HPKIT_SHORT set, every training ends after so many updates: for tests of what is around it.
SHORT = 12

_VERSIONS = (
    "torch",
    "transformers",
    "accelerate",
    "bitsandbytes",
    "tokenizers",
    "numpy",
    "music21",
)


def finetune(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    out: str | Path = "runs/finetune",
    resume: bool = False,
    log=print,
    throughput: Throughput = AUTO,
) -> Run:
    """Fine-tune `model` on `corpus` by `recipe`, leave everything in `out`, and say what happens through `log`.

    `model` is `starter`, `fresh` (random weights), a folder or a hub id; `corpus` a built-in name, a file, a folder or
    a hub data set's id. `resume` continues an unfinished run in `out` from its last whole checkpoint. `log` takes a
    line of text; None silences lines and progress bar. `throughput`: what makes it fast; a resumed run may change it.
    Under torchrun or accelerate launch every process calls it: one says and writes, and all return its Run. Raises
    BadInput, before anything is written, for what cannot work, and Interrupted after Ctrl-C or SIGTERM.
    """
    processes.join()
    if not processes.is_main():
        log = None
    say = log or (lambda line: None)
    out = Path(out)
    request = {
        "recipe": dataclasses.asdict(recipe),
        "model": model,
        "corpus": str(corpus),
        "processes": processes.count(),
    }
    request["throughput"] = dataclasses.asdict(throughput)
    with (
        StopSignal().installed() as stop,
        disk_errors_are_bad_input(out, f"continue with --resume --out {out}"),
    ):
        processes.from_main(lambda: _check_folder(out, request, resume))
        with quiet_transformers():
            return _finetune(recipe, request, out, stop, say, progress=log is not None)


class Yardstick(NamedTuple):
    """What a run is measured with.

    Of the held-out text, `eval_blocks` blocks of `eval_length` tokens; None: all of it, in blocks of the recipe's length.
    A sampled tune is cut off after `sampled_tokens`.
    """

    eval_blocks: int | None = None
    eval_length: int | None = None
    sampled_tokens: int = 400


WHOLE = Yardstick()


def train(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    yardstick=WHOLE,
    watch=None,
) -> Run:
    """The training of `finetune` alone: nothing is said, saved or drawn, and tunes are sampled after the run only.

    `watch(update, updates, logged)` is called after every one of all updates with an empty dict, and with what is logged
    whenever something is: loss, learning_rate, grad_norm, eval_loss. What it raises ends the run and comes through.
    Raises BadInput.
    """
    request = {"model": model, "corpus": str(corpus)}
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        job = _prepare(recipe, request, Path(out), lambda line: None, yardstick, save_strategy="no")
        reset_peak_memory(job.capability.device)
        stop = (
            StopSignal()
        )  # never installed: an interruption ends the run at once, since there is nothing to save
        callback = _make_callback(stop, job.accounting, None, False, watch)
        trainer = _make_trainer(
            job.model, job.tokenizer, job.train, job.evaluation, job.arguments, callback
        )
        before = trainer.evaluate()["eval_loss"]
        trained = _train(trainer, recipe, None, callback, stop)
        last = trained.history[-1] if trained.history else {}
        evaluated = "eval_loss" in last and last["step"] == trainer.state.global_step
        after = last["eval_loss"] if evaluated else trainer.evaluate()["eval_loss"]
        verdicts = [music.judge(text) for text in _sample_tunes(trainer, job, after)]
        measured = {
            "eval_loss_before": before,
            "bars_valid_before": None,
            "tunes_parsed_before": None,
        }
        return _as_run(
            job,
            request,
            trainer,
            trained,
            measured | {"eval_loss_after": after} | _tally("after", verdicts),
        )


def trained(recipe: Recipe = STARTER, model: str = "starter", corpus: str = "airdsAirs"):
    """The Trainer of `train` after its last update, live: `.model`, and `.optimizer` with its states.

    Nothing is evaluated, sampled, said or saved. Raises BadInput.
    """
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        request = {"model": model, "corpus": str(corpus)}
        job = _prepare(
            recipe, request, Path(out), lambda line: None, save_strategy="no", eval_strategy="no"
        )
        stop = StopSignal()  # never installed, as in train
        callback = _make_callback(stop, job.accounting, None, False)
        trainer = _make_trainer(
            job.model, job.tokenizer, job.train, job.evaluation, job.arguments, callback
        )
        _train(trainer, recipe, None, callback, stop)
        return trainer


class _Job(NamedTuple):
    """Everything that is settled before anything is written."""

    recipe: Recipe
    machine: Machine
    capability: Capability
    corpus: Corpus
    model: object
    tokenizer: object
    train: list[dict]
    evaluation: list[dict]
    arguments: object
    accounting: Accounting
    yardstick: Yardstick


class _Trained(NamedTuple):
    """What the training loop gave: seconds spent in its updates, tokens seen in them, the optimizer's state."""

    history: list[dict]
    seconds: float
    tokens: int
    state: dict


def _prepare(recipe: Recipe, request: dict, out: Path, say, yardstick=WHOLE, **settings) -> _Job:
    """Load and count everything, say what will happen, and refuse what cannot work. Writes nothing.

    A request that says nothing of `throughput` is trained as transformers does by itself.
    """
    from transformers import set_seed

    machine = processes.from_main(probe)
    capability = decide(recipe, machine)
    for choice in capability.choices:
        say(str(choice))
    eval_batch = 8 if yardstick.eval_blocks else recipe.per_device_train_batch_size
    arguments = recipe.training_arguments(
        out, per_device_eval_batch_size=eval_batch, **capability.settings, **settings
    )
    corpus = load_corpus(request["corpus"])
    set_seed(
        recipe.seed
    )  # a fresh model draws its weights here, before the Trainer could seed anything
    model, tokenizer = load_model(request["model"], recipe.dtype)
    train, evaluation = _blocks(
        corpus, tokenizer, _sequence_length(recipe, model), yardstick, context_length(model)
    )
    devices = arguments.world_size * max(arguments.n_gpu, 1)
    accounting = account(recipe, len(train), len(train[0]["input_ids"]), devices)
    make_schedule(recipe, accounting.updates)  # refused here, before anything is written
    say(
        f"model {request['model']}: {model.num_parameters():,} parameters; corpus {corpus.name}: {len(corpus.documents):,} documents"
    )
    for why, count in sorted(corpus.passed_over.items(), key=lambda item: -item[1])[:3]:
        say(f"  passed over {count}: {why}")
    for line in accounting.lines():
        say(line)
    if "throughput" in request:
        findings = preflight(recipe, len(train), model, machine, processes=devices)
        over = next(
            (finding.evidence for finding in findings if finding.rule == "memory-over-free"), None
        )
        throughput, choices = choose(
            Throughput(**request["throughput"]), capability, model, accounting.updates, bool(over)
        )
        for choice in choices:
            say(str(choice))
        # Activation checkpointing mends a shortage where the rest has room.
        rest = over["weights"] + over["gradients"] + over["optimizer"] if over else 0
        mended = bool(over) and throughput.activation_checkpointing and rest <= over["free"]
        for finding in findings:
            if not (mended and finding.rule == "memory-over-free"):
                say(str(finding))
        model.set_attn_implementation(throughput.attn_implementation)
        arguments = recipe.training_arguments(
            out,
            per_device_eval_batch_size=eval_batch,
            **capability.settings,
            **throughput.settings,
            **settings,
        )
        capability = dataclasses.replace(capability, choices=[*capability.choices, *choices])
    return _Job(
        recipe,
        machine,
        capability,
        corpus,
        model,
        tokenizer,
        train,
        evaluation,
        arguments,
        accounting,
        yardstick,
    )


def _finetune(
    recipe: Recipe, request: dict, out: Path, stop: StopSignal, say, progress: bool
) -> Run:
    with processes.all_or_none():
        job = _prepare(recipe, request, out, say)
    started = processes.from_main(
        lambda: _start_folder(out, request | {"corpus_fingerprint": job.corpus.fingerprint}, job)
    )
    with processes.all_or_none():
        if not (out / "started.json").exists():
            raise BadInput(
                f"--out {out}: one process cannot see what another has written there; choose a folder that all machines share"
            )
    checkpoint = processes.from_main(lambda: last_whole_checkpoint(out, say, processes.count()))
    if "eval_loss_before" in started or checkpoint:
        say(
            f"resuming from {checkpoint.name}"
            if checkpoint
            else "no whole checkpoint: starting from the first update"
        )
    model = job.model
    if (
        checkpoint and update_of(checkpoint) >= job.accounting.updates
    ):  # all trained; the kill came after
        model, _ = load_model(str(checkpoint), recipe.dtype)
    callback = _make_callback(stop, job.accounting, say, progress)
    trainer = _make_trainer(
        model, job.tokenizer, job.train, job.evaluation, job.arguments, callback
    )
    if "eval_loss_before" not in started:
        started |= _measure("before", trainer, job, out, say)
        processes.from_main(
            lambda: write_whole(out / "started.json", json.dumps(started, indent=1))
        )
    trained = _train(trainer, recipe, checkpoint, callback, stop)
    after = _measure("after", trainer, job, out, say)
    _save_model(trainer, out)
    before = {name: value for name, value in started.items() if name.endswith("_before")}
    run = _as_run(
        job,
        request,
        trainer,
        trained,
        before | after,
        update_of(checkpoint) if checkpoint else None,
    )
    processes.from_main(lambda: _finish_folder(job, run, out, say))
    return run


def _finish_folder(job: _Job, run: Run, out: Path, say) -> None:
    say(_states_in_words(job, run))
    picture = figures.loss_picture(run.history)
    write_whole(out / "loss.png", picture.png)
    say(picture.alt)
    write_whole(out / "run.json", run.to_json())


def _states_in_words(job: _Job, run: Run) -> str:
    """What the optimizer held, beside what `memory` predicts from the model's shapes."""
    eight_bit = run.optimizer_state_dtypes.get("uint8", {"bytes": 0})["bytes"] / max(
        run.optimizer_state_bytes, 1
    )
    words = f"optimizer state: {run.optimizer_state_bytes / 1e6:.3f} MB held, {eight_bit:.0%} of it in 8 bits"
    try:
        predicted = sum(
            state.bytes
            for state in optimizer_states(
                parameters_of(job.model), job.capability.optim, job.recipe.dtype
            )
        )
    except BadInput:  # an optimizer whose states nobody predicts
        return words
    return f"{words}; {predicted / 1e6:.3f} MB predicted"


def _as_run(
    job: _Job,
    request: dict,
    trainer,
    trained: _Trained,
    measured: dict,
    resumed_from: int | None = None,
) -> Run:
    import torch

    dtypes = optimizer_state_bytes(trained.state)
    norms = [
        torch.linalg.vector_norm(weight.detach().float()).item()
        for weight in trainer.model.parameters()
    ]
    evaluated = json.dumps([(block["input_ids"], block["labels"]) for block in job.evaluation])
    return Run(
        recipe=job.recipe,
        model=request["model"],
        corpus=job.corpus.name,
        corpus_fingerprint=job.corpus.fingerprint,
        capability=dataclasses.asdict(job.capability),
        versions={name: _version(name) for name in _VERSIONS},
        parameters=trainer.model.num_parameters(),
        updates=trainer.state.global_step,
        tokens=trainer.state.num_input_tokens_seen,
        history=[{"step": 0, "eval_loss": measured["eval_loss_before"]}, *trained.history],
        **measured,
        optimizer_state_bytes=sum(entry["bytes"] for entry in dtypes.values()),
        optimizer_state_dtypes=dtypes,
        train_seconds=trained.seconds,
        tokens_per_second=trained.tokens / trained.seconds if trained.tokens else None,
        peak_memory_bytes=peak_memory_bytes(job.capability.device),
        resumed_from=resumed_from,
        weights_norm=sum(norm**2 for norm in norms) ** 0.5,
        evaluation_fingerprint=hashlib.sha256(evaluated.encode()).hexdigest()[:12],
        processes=job.accounting.processes,
    )


# Before the run: what was asked for, and is there room for it.


def _check_folder(out: Path, request: dict, resume: bool) -> None:
    """Raise BadInput unless `out` is new, or holds an unfinished run of the same request to resume."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out} is a file: expected a new or empty folder")
    content = (
        [file.name for file in out.iterdir() if not file.name.endswith(".part")]
        if out.is_dir()
        else []
    )
    if not resume:
        if content:
            raise BadInput(
                f"--out {out} is not empty: choose another folder, or continue the run in it with --resume"
            )
        return
    if "run.json" in content:
        raise BadInput(
            f"--resume: nothing to resume, the run in {out} is finished; choose another --out for a new one"
        )
    started = read_started(out)
    for name, before in started["recipe"].items():
        if request["recipe"].get(name) != before:
            raise BadInput(
                f"--resume with another recipe: the run in {out} has {name} {before}, now it is {request['recipe'].get(name)}; "
                "leave the recipe as it was, or choose another --out"
            )
    for name in ("model", "corpus"):
        if request[name] != started[name]:
            raise BadInput(
                f"--resume with another {name}: the run in {out} has {started[name]}, now it is {request[name]}"
            )
    if request["processes"] != (before := started.get("processes", 1)):
        raise BadInput(
            f"--resume with another number of processes: the run in {out} has {before}, now there are {request['processes']}, and "
            f"each update would see another batch; start {before} of them, or choose another --out"
        )


def _start_folder(out: Path, request: dict, job: _Job) -> dict:
    """Write `started.json` for a new run; for a resumed one return what stands there, after comparing the corpus."""
    if (out / "started.json").exists():
        started = read_started(out)
        if started["corpus_fingerprint"] != request["corpus_fingerprint"]:
            raise BadInput(
                f"--resume: corpus {request['corpus']} has changed since the run in {out} began; choose another --out"
            )
        return started
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    free, needed = shutil.disk_usage(place).free, _disk_needed(job)
    if free < needed:
        raise BadInput(
            f"no space left on the device of {out}: the run needs {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free"
        )
    write_whole(out / "started.json", json.dumps(request, indent=1))
    return request


def _disk_needed(job: _Job) -> int:
    """Bytes: the model once, and each checkpoint that stays, and one more, with its optimizer's two averages."""
    count = job.model.num_parameters()
    weights = count * next(job.model.parameters()).element_size()
    kept = min(
        len(job.accounting.save_at), job.recipe.save_total_limit or len(job.accounting.save_at)
    )
    return weights + (kept + 1) * (
        weights + count * (2 if job.capability.optim in EIGHT_BIT_ADAMW else 8)
    )


def _sequence_length(recipe: Recipe, model) -> int:
    context = context_length(model)
    if recipe.max_seq_length is None and context is None:
        raise BadInput(
            "max_seq_length: the model's config does not say how long its sequences may be; give a number"
        )
    if context is not None and (recipe.max_seq_length or 0) > context:
        raise BadInput(
            f"max_seq_length: expected at most {context} tokens, the model's context, got {recipe.max_seq_length}"
        )
    return recipe.max_seq_length or context


def _blocks(corpus: Corpus, tokenizer, length: int, yardstick: Yardstick, context: int | None):
    eval_length = min(yardstick.eval_length or length, context or math.inf)
    train, evaluation = blocks_of(corpus, tokenizer, length, eval_length)
    return train, evaluation[: yardstick.eval_blocks]


def _save_model(trainer, out: Path) -> None:
    part = out / "model.part"
    processes.from_main(lambda: shutil.rmtree(part, ignore_errors=True))
    trainer.save_model(
        str(part)
    )  # of every process: where the weights are spread over them, each has a part

    def publish():
        (part / "training_args.bin").unlink(missing_ok=True)  # a pickle; run.json says the same
        shutil.rmtree(out / "model", ignore_errors=True)
        part.rename(out / "model")

    processes.from_main(publish)


# The run.


def _make_trainer(model, tokenizer, train, evaluation, arguments, callback):
    from transformers import PrinterCallback, Trainer, default_data_collator

    arguments.disable_tqdm = True  # the callback has a bar of its own
    arguments.include_num_input_tokens_seen = "all"
    arguments.ddp_find_unused_parameters = (
        False  # a full fine-tune uses all, and looking for others takes time
    )
    Trainer = processes.without_repeats(Trainer)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=default_data_collator,  # every block is full: there is nothing to pad
        processing_class=tokenizer,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _make_callback(stop: StopSignal, accounting: Accounting, say, progress: bool, watch=None):
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        """Draws the progress bar and asks for a checkpoint and an end when a signal has come."""

        updates, bar, loss = accounting.updates, None, None

        def on_train_begin(self, args, state, control, **kwargs):
            self.first_token = state.num_input_tokens_seen
            self.bar = tqdm(
                total=self.updates, initial=state.global_step, unit="update", disable=not progress
            )

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(state.global_step - self.bar.n)
            rate = (state.num_input_tokens_seen - self.first_token) / max(
                self.bar.format_dict["elapsed"], 1e-9
            )
            shown = {"tokens/s": f"{rate:,.0f}"} | (
                {"loss": f"{self.loss:.3f}"} if self.loss is not None else {}
            )
            self.bar.set_postfix(shown, refresh=False)
            stop.agree()
            if stop.agreed:
                say("stopping here, with a checkpoint; a second signal stops at once, without")
                control.should_save = control.should_training_stop = True
            if os.environ.get("HPKIT_SHORT") and state.global_step >= SHORT:
                control.should_log = control.should_training_stop = True
            if watch:
                watch(state.global_step, self.updates, {})

        def on_log(self, args, state, control, logs=None, **kwargs):
            logged = {name: value for name, value in (logs or {}).items() if name in LOGGED}
            self.loss = logged.get("loss", self.loss)
            if watch and logged:
                watch(state.global_step, self.updates, logged)

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()

    return Callback()


def _train(
    trainer, recipe: Recipe, checkpoint: Path | None, callback, stop: StopSignal
) -> _Trained:
    """Raises Interrupted after a signal, when the checkpoint is written."""
    import torch
    from transformers import TrainerState, set_seed

    first = update_of(checkpoint) if checkpoint else 0
    seconds, tokens = 0.0, 0
    if first and first >= callback.updates:  # the Trainer would train one update too many
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    else:
        forget_32bit_overrides()
        set_seed(
            recipe.seed
        )  # sampling and evaluating before the run must not change the order of its data
        began = time.perf_counter()
        stop.training = True
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            stop.agree()  # a signal may have come after the last update
        finally:
            stop.training = False
            if callback.bar is not None:
                callback.bar.close()
        if stop.agreed:
            raise Interrupted(stop.agreed)
        evaluating = sum(
            entry.get("eval_runtime", 0)
            for entry in trainer.state.log_history
            if entry["step"] > first
        )
        seconds = time.perf_counter() - began - evaluating
        tokens = trainer.state.num_input_tokens_seen - callback.first_token
        state = trainer.optimizer.state
    entries = (
        entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry
    )
    history = [
        {name: entry[name] for name in ("step", *LOGGED) if name in entry} for entry in entries
    ]
    return _Trained(history, seconds, tokens, state)


def _measure(when: str, trainer, job: _Job, out: Path, say) -> dict:
    """Evaluate and sample; leave the samples in `out`; return the figures with `when` behind their names."""
    loss = trainer.evaluate()["eval_loss"]
    say(f"evaluation loss {when}: {loss:.4f}")
    return {f"eval_loss_{when}": loss} | processes.from_main(
        lambda: _sample(when, trainer, job, loss, out, say)
    )


def _sample(when: str, trainer, job: _Job, loss: float, out: Path, say) -> dict:
    if texts := _sample_texts(trainer, job, loss):
        write_whole(out / f"{when}.txt", "\n\n".join(texts) + "\n")
        say(f"a sample {when} the run:\n{texts[0]}\n")
    texts = _sample_tunes(trainer, job, loss)
    verdicts = [music.judge(text) for text in texts]
    tally = _tally(when, verdicts)
    if texts:
        titles = [
            f"sample {number} {when} the run: {verdict}"
            for number, verdict in enumerate(verdicts, 1)
        ]
        write_whole(out / f"{when}.abc", music.tune_book(texts, titles))
        bars, valid = (
            sum(verdict.bars for verdict in verdicts),
            sum(verdict.bars_valid for verdict in verdicts),
        )
        parsed = tally[f"tunes_parsed_{when}"]
        say(f"sample 1 {when}: {verdicts[0]}\n{texts[0]}")
        say(f"all {len(texts)} samples {when}: {parsed} parse, {valid} of {bars} bars add up")
        if when == "after" and parsed:
            _let_it_be_heard(texts, verdicts, out, say)
    return tally


def _sample_texts(trainer, job: _Job, loss: float) -> list[str]:
    """Two samples: texts from the model's own distribution, or its likeliest answers to the first prompts held out.

    None where the corpus is tunes, or `loss` shows that the model has no probabilities left.
    """
    if job.corpus.kind == "tunes" or not math.isfinite(loss):
        return []
    model, tokenizer = trainer.model, trainer.processing_class
    context = (context_length(model) or 512) - 1
    if job.corpus.kind == "text":
        return sample(model, tokenizer, 2, min(context, SAMPLED_TOKENS), job.recipe.seed)
    texts = []
    for document in job.corpus.split()[1][:2]:
        prompt = prompt_of(job.corpus.kind, document, tokenizer)
        texts.append(
            f"{prompt}[{likeliest(model, tokenizer, prompt, min(context, SAMPLED_TOKENS))}]"
        )
    return texts


def _sample_tunes(trainer, job: _Job, loss: float) -> list[str]:
    """32 tunes; none where the corpus is not tunes, or `loss` shows that the model has no probabilities left to draw by."""
    if job.corpus.kind != "tunes" or not math.isfinite(loss):
        return []
    longest = (context_length(trainer.model) or 512) - 1
    return sample(
        trainer.model,
        trainer.processing_class,
        SAMPLED_TUNES,
        min(longest, job.yardstick.sampled_tokens),
        job.recipe.seed,
    )


def _tally(when: str, verdicts: list[music.Verdict]) -> dict:
    bars, valid = (
        sum(verdict.bars for verdict in verdicts),
        sum(verdict.bars_valid for verdict in verdicts),
    )
    share = (valid / bars if bars else 0.0) if verdicts else None
    return {
        f"bars_valid_{when}": share,
        f"tunes_parsed_{when}": sum(v.parses for v in verdicts) if verdicts else None,
    }


def _let_it_be_heard(texts: list[str], verdicts: list[music.Verdict], out: Path, say) -> None:
    """Leave sound and piano roll of the first sample that parses, and say which it is."""
    import io

    number = next(number for number, verdict in enumerate(verdicts) if verdict.parses)
    tune = music.parse(texts[number])
    sound = io.BytesIO()
    music.write_wav(tune, sound)
    write_whole(out / "after.wav", sound.getvalue())
    picture = figures.piano_roll(tune, f"sample {number + 1}, the first that parses")
    write_whole(out / "after.png", picture.png)
    say(f"hear it: {out / 'after.wav'}. {picture.alt}")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
