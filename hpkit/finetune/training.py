"""The fine-tune itself: fp32 master weights, bf16 products, 8-bit AdamW. To be read downwards.

`prepare` loads the model and packs the text, `make_trainer` builds transformers' Trainer, `fit`
runs its loop, `as_run` writes down what came of it; `train` is the four in a row, and leaves
nothing on disk. What keeps a long run safe stands around this file: `session` has the folder, the
words and the pictures, `checkpoints` resumes, `stopping` hears Ctrl-C, `processes` shares the work.
"""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpkit.accounting import Accounting, account
from hpkit.adapters import adapter_bytes, quantization_config, trained_weights, with_adapter
from hpkit.capability import Capability, decide, forget_32bit_overrides, probe
from hpkit.corpus.documents import Corpus
from hpkit.corpus.ledger import Ledger
from hpkit.corpus.load import load_corpus
from hpkit.corpus.music import judge
from hpkit.finetune.divergence import diverged_since, length_of, noting_divergence, what_to_try
from hpkit.finetune.processes import from_main, without_repeats
from hpkit.finetune.run import Run, installed_versions, logged_history
from hpkit.finetune.samples import Evaluation, drawn, evaluation_of, sample_tunes
from hpkit.finetune.text import fingerprint_of, text_for
from hpkit.finetune.watching import old_text, update_size, watcher
from hpkit.finetune.yardstick import WHOLE, Measured, Yardstick
from hpkit.leaks import refuse_unless_causal
from hpkit.measured_memory import optimizer_state_bytes, peak_memory_bytes, reset_peak_memory
from hpkit.model import load_model, quiet_transformers
from hpkit.recipe import STARTER, Recipe
from hpkit.schedules import make_schedule


@dataclass(frozen=True)
class Job:
    """Everything that is settled before the first update.

    `blocks`: to train and to evaluate on, dicts of equally long lists of token ids (`input_ids`,
    `labels` and what keeps documents apart); `ledgers`: what became of every document of the
    corpus, and of one to evaluate on, or None. `arguments`: transformers' TrainingArguments, made
    of the recipe and of `settings`, which the machine and the caller add.
    """

    recipe: Recipe
    model_name: str
    corpus: Corpus
    capability: Capability
    yardstick: Yardstick
    model: object
    tokenizer: object
    blocks: Measured
    ledgers: tuple[Ledger, Ledger | None]
    accounting: Accounting
    settings: dict
    arguments: object


class Trained(NamedTuple):
    """What the loop gave: its log, seconds spent in updates, tokens seen, optimizer states."""

    history: list[dict]
    seconds: float
    tokens: int
    optimizer_state: dict

    @property
    def tokens_per_second(self) -> float | None:
        """None where nothing was left to train."""
        return self.tokens / self.seconds if self.tokens else None


def train(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    yardstick: Yardstick = WHOLE,
    watch=None,
) -> Run:
    """Fine-tune `model` on `corpus` by `recipe`, and measure it. Nothing is said, saved or drawn.

    Tunes are sampled after the run only. `watch(update, updates, logged)` is called after every one
    of all updates with an empty dict, and with what is logged whenever something is: loss,
    learning_rate, grad_norm, eval_loss. What it raises ends the run and comes through. Raises
    BadInput.
    """
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        capability = decide(recipe, from_main(probe))
        job = prepare(recipe, model, corpus, capability, out, yardstick, save_strategy="no")
        reset_peak_memory(capability.device)
        callbacks = [watcher(job.accounting.updates, watch)] if watch else []
        if yardstick.update_size:
            callbacks.append(update_size())
        trainer = make_trainer(job, callbacks)
        if yardstick.old_corpus:
            trainer.add_callback(old_text(trainer, job.blocks.old))
        before = _losses_now(trainer)
        result = fit(trainer, recipe)
        after = _losses_now(trainer)
        most = yardstick.sampled_tokens
        tunes = drawn(
            lambda: sample_tunes(trainer, job.corpus, after.eval_loss, recipe.seed, most),
            say=lambda line: None,
        )
        sampled = evaluation_of(after.eval_loss, [judge(tune) for tune in tunes])
        return as_run(job, trainer, result, before, sampled._replace(old_loss=after.old_loss))


def trained(recipe: Recipe = STARTER, model: str = "starter", corpus: str = "airdsAirs"):
    """The live Trainer of `train` after its last update, with `.model` and `.optimizer`.

    Nothing is evaluated, sampled, said or saved. Raises BadInput.
    """
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        capability = decide(recipe, from_main(probe))
        job = prepare(
            recipe, model, corpus, capability, out, save_strategy="no", eval_strategy="no"
        )
        trainer = make_trainer(job)
        fit(trainer, recipe)
        return trainer


def prepare(
    recipe: Recipe,
    model_name: str,
    corpus: str | Corpus,
    capability: Capability,
    out: str | Path,
    yardstick: Yardstick = WHOLE,
    progress: bool = False,
    **settings,
) -> Job:
    """Load and count everything, and refuse what cannot work. Writes nothing.

    `capability`: what to use on this machine, of `capability.decide`. `out` is where the Trainer
    will write, and `settings` go to its arguments as they are. `corpus`: its name, or what has been
    read of it. `progress` shows a bar over a long text. Raises BadInput.
    """
    from transformers import set_seed

    # A yardstick is the same for every recipe, down to the rounding that a batch's size decides.
    eval_batch = 8 if yardstick.eval_blocks else recipe.per_device_train_batch_size
    settings = {"per_device_eval_batch_size": eval_batch} | capability.settings | settings
    # First of all: whatever transformers refuses is refused before a large model is loaded.
    arguments = recipe.training_arguments(out, **settings)
    if not isinstance(corpus, Corpus):
        corpus = load_corpus(corpus, all_books=yardstick.all_books)
    # A fresh model draws its weights while it is made, before the Trainer could seed anything.
    set_seed(recipe.seed)
    # In `recipe.dtype`, fp32 unless asked otherwise: these are the master weights, which take the
    # updates; under bf16=True autocast multiplies with bf16 copies of them.
    quantization = quantization_config(recipe, capability.compute_dtype)
    model, tokenizer = load_model(model_name, recipe.dtype, quantization)
    refuse_unless_causal(model, model_name)
    text = text_for(model, tokenizer, recipe, corpus, yardstick, progress)
    devices = arguments.world_size * max(arguments.n_gpu, 1)
    train_blocks = text.blocks.train.blocks
    accounting = account(recipe, len(train_blocks), len(train_blocks[0]["input_ids"]), devices)
    # A schedule that cannot run is refused here; the Trainer would do so after the first writes.
    make_schedule(recipe, accounting.updates)
    return Job(
        recipe=recipe,
        model_name=model_name,
        corpus=corpus,
        capability=capability,
        yardstick=yardstick,
        # With `lora_r`, these weights are frozen, and an adapter beside them trains, in fp32.
        model=with_adapter(model, recipe),
        tokenizer=tokenizer,
        blocks=text.blocks,
        ledgers=(text.ledger, text.eval_ledger),
        accounting=accounting,
        settings=settings,
        arguments=arguments,
    )


def make_trainer(job: Job, callbacks: list | None = None):
    """transformers' Trainer for the job, with these callbacks, without its own bar and prints."""
    from transformers import PrinterCallback, Trainer, default_data_collator

    arguments = job.arguments
    arguments.disable_tqdm = True
    arguments.include_num_input_tokens_seen = "all"
    # A loss that is no number is to be seen, and not replaced by the mean of the others.
    arguments.logging_nan_inf_filter = False
    # A full fine-tune uses every parameter, and looking for unused ones takes time.
    arguments.ddp_find_unused_parameters = False
    Trainer = noting_divergence(without_repeats(Trainer))
    trainer = Trainer(
        model=job.model,
        args=arguments,
        train_dataset=job.blocks.train.blocks,
        eval_dataset=job.blocks.evaluation,
        data_collator=default_data_collator,  # every block is full: there is nothing to pad
        processing_class=job.tokenizer,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def fit(trainer, recipe: Recipe, checkpoint: Path | None = None) -> Trained:
    """The loop: all updates of the recipe, or those after `checkpoint`, the Trainer's folder."""
    from transformers import TrainerState, set_seed

    before = TrainerState()
    if checkpoint:
        before = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    # bitsandbytes remembers by position which parameters stay at 32 bits, those of an earlier run
    # in this process too.
    forget_32bit_overrides()
    # Sampling and evaluating before the run must not change the order of its data.
    set_seed(recipe.seed)
    began = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - began
    for entry in trainer.state.log_history:
        if entry["step"] > before.global_step:
            seconds -= entry.get("eval_runtime", 0) + entry.get("eval_old_runtime", 0)
    return Trained(
        history=logged_history(trainer.state),
        seconds=seconds,
        tokens=trainer.state.num_input_tokens_seen - before.num_input_tokens_seen,
        optimizer_state=trainer.optimizer.state,
    )


def as_run(
    job: Job,
    trainer,
    result: Trained,
    before: Evaluation,
    after: Evaluation,
    resumed_from: int | None = None,
) -> Run:
    """The finished run as `run.json` holds it; `resumed_from`: the update it was resumed after."""
    dtypes = optimizer_state_bytes(result.optimizer_state)
    trained = trained_weights(trainer.model)
    norm = length_of(trained)
    since = diverged_since(trainer, [before.eval_loss, after.eval_loss], norm)
    ledger, eval_ledger = job.ledgers
    eval_documents = eval_ledger._asdict() if eval_ledger else None
    first = {"step": 0, "eval_loss": before.eval_loss}
    if before.old_loss is not None:
        first["eval_old_loss"] = before.old_loss
    return Run(
        recipe=job.recipe,
        model=job.model_name,
        corpus=job.corpus.name,
        corpus_fingerprint=job.corpus.fingerprint,
        capability=dataclasses.asdict(job.capability),
        versions=installed_versions(),
        parameters=trainer.model.num_parameters(),
        trained_parameters=sum(weight.numel() for weight in trained),
        adapter_bytes=adapter_bytes(trainer.model),
        updates=trainer.state.global_step,
        tokens=trainer.state.num_input_tokens_seen,
        history=[first, *result.history],
        eval_loss_before=before.eval_loss,
        eval_loss_after=after.eval_loss,
        bars_valid_before=before.bars_valid,
        bars_valid_after=after.bars_valid,
        tunes_parsed_before=before.tunes_parsed,
        tunes_parsed_after=after.tunes_parsed,
        optimizer_state_bytes=sum(entry["bytes"] for entry in dtypes.values()),
        optimizer_state_dtypes=dtypes,
        train_seconds=result.seconds,
        tokens_per_second=result.tokens_per_second,
        peak_memory_bytes=peak_memory_bytes(job.capability.device),
        resumed_from=resumed_from,
        weights_norm=norm,
        evaluation_fingerprint=fingerprint_of(job.blocks.evaluation),
        processes=job.accounting.processes,
        eval_corpus=job.corpus.evaluation_name,
        eval_old_loss_before=before.old_loss,
        eval_old_loss_after=after.old_loss,
        text_share=job.blocks.train.text_share,
        cut_documents=job.blocks.train.cut_documents,
        documents=ledger._asdict(),
        eval_documents=eval_documents,
        diverged_since=since,
        what_to_try=what_to_try(job.recipe, since),
    )


def _losses_now(trainer) -> Evaluation:
    """The evaluation losses after the last update, measured now unless the loop has done so."""
    state = trainer.state
    logged_now = [entry for entry in state.log_history if entry["step"] == state.global_step]
    if not any("eval_loss" in entry for entry in logged_now):
        trainer.evaluate()
    losses = {}
    for entry in state.log_history:  # the last of each name stays
        losses |= entry
    return Evaluation(losses["eval_loss"], old_loss=losses.get("eval_old_loss"))
