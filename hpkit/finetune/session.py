"""`finetune(recipe, model, corpus, out) -> Run`: the training, and all that keeps a run safe.

`training` has the run itself. Around it: a folder that can be resumed, one process that speaks and
writes, signals that stop after an update, samples and pictures, and a line for everything that
happens.
"""

import dataclasses
import io
from contextlib import closing
from pathlib import Path

from hpkit.corpus.answers import stop_tokens
from hpkit.corpus.music import Verdict, judge, tune_book, write_wav
from hpkit.corpus.notation import parse
from hpkit.errors import BadInput
from hpkit.figures.runs import loss_picture, piano_roll
from hpkit.files import disk_errors_are_bad_input, write_whole
from hpkit.finetune import processes
from hpkit.finetune.checkpoints import (
    Request,
    check_folder,
    last_whole_checkpoint,
    restored,
    save_merged,
    save_model,
    start_folder,
    update_of,
    with_weights_of,
)
from hpkit.finetune.divergence import divergence_in_words
from hpkit.finetune.loading import load
from hpkit.finetune.run import Run
from hpkit.finetune.samples import (
    Evaluation,
    count_bars,
    drawn,
    evaluation_of,
    sample_texts,
    sample_tunes,
)
from hpkit.finetune.stopping import StopSignal
from hpkit.finetune.throughput import AUTO, Throughput
from hpkit.finetune.training import Job, as_run, fit, make_trainer
from hpkit.memory import parameters_of, state_bytes, trained_dtype
from hpkit.model import quiet_transformers
from hpkit.recipe import STARTER, Recipe


def finetune(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    out: str | Path = "runs/finetune",
    resume: bool = False,
    log=print,
    throughput: Throughput = AUTO,
    eval_corpus: str | None = None,
    text_column: str | None = None,
    merge: bool = False,
) -> Run:
    """Fine-tune `model` on `corpus` by `recipe`, and leave everything in the folder `out`.

    `model` is `starter`, `fresh` (random weights), a folder or a hub id; `corpus` a built-in name,
    a file, a folder or a hub data set's id. `eval_corpus`, of the same sorts, is all evaluated on,
    and nothing held out of `corpus` then. `text_column`: which columns of a table hold the text, as
    `load_corpus` takes it. `resume` continues an unfinished run in `out` from its last whole
    checkpoint. `log` takes each line of what is to be said; None silences the bar too. `merge`: an
    adapter is also added to the model's weights, and the sum saved. `throughput`: what makes it
    fast; a resumed run may change it. Under torchrun or accelerate launch every process calls it:
    one says and writes, and all return its Run. Raises BadInput, before anything is written, for
    what cannot work, and Interrupted after Ctrl-C or SIGTERM.
    """
    processes.join()
    if not processes.is_main():
        log = None
    out = Path(out)
    if eval_corpus is not None:
        eval_corpus = str(eval_corpus)
    request = Request(
        recipe, model, str(corpus), processes.count(), throughput, eval_corpus, text_column, merge
    )
    stop = StopSignal()
    with stop.installed(), disk_errors_are_bad_input(out, "resume the run"):
        # Before transformers is imported, which takes seconds.
        processes.from_main(lambda: check_folder(out, request, resume))
        with quiet_transformers():
            return _Session(request, out, stop, log).run()


class _Session:
    """One call of `finetune`: what was asked for, where it goes, who stops it and who is told."""

    def __init__(self, request: Request, out: Path, stop: StopSignal, log):
        self.request = request
        self.out = out
        self.stop = stop
        self.progress = log is not None
        self.say = log or (lambda line: None)

    def run(self) -> Run:
        """From loading to `run.json`."""
        with processes.all_or_none():
            job = load(self.request, self.out, self.say, self.progress)
            tell_where_to_stop(job)
        started = processes.from_main(lambda: start_folder(self.out, self.request, job))
        self._check_that_all_see_the_folder()
        checkpoint = processes.from_main(
            lambda: last_whole_checkpoint(self.out, self.say, processes.count())
        )
        if checkpoint:
            self.say(f"resuming from {checkpoint.name}")
        elif started.before:
            self.say("no whole checkpoint: starting from the first update")
        resumed_from = None
        if checkpoint:
            resumed_from = update_of(checkpoint)
        # A kill between the last update and run.json leaves nothing to train, and the Trainer,
        # given that checkpoint, would train one update too many.
        all_trained = resumed_from is not None and resumed_from >= job.accounting.updates
        if all_trained:
            job = with_weights_of(checkpoint, job)
        bar = _make_progress_bar(job, self.stop, self.say, self.progress)
        trainer = make_trainer(job, [bar])
        before = started.before
        if before is None:
            before = self.evaluate("before", trainer, job)
            started = dataclasses.replace(started, before=before)
            processes.from_main(lambda: started.write(self.out))
        if all_trained:
            result = restored(trainer, checkpoint)
        else:
            with self.stop.during_training(), closing(bar):
                result = fit(trainer, job.recipe, checkpoint)
        after = self.evaluate("after", trainer, job)
        save_model(trainer, self.out)
        run = as_run(job, trainer, result, before, after, resumed_from)
        self.say(_states_in_words(job, run))
        if self.request.merge:
            processes.from_main(lambda: self.merge(job))
        processes.from_main(lambda: self.finish(job, run))
        return run

    def _check_that_all_see_the_folder(self) -> None:
        # Each of several machines has a disk of its own, where the others' checkpoints are not.
        with processes.all_or_none():
            if not (self.out / "started.json").exists():
                raise BadInput(
                    f"out {self.out}: one process cannot see what another has written there; "
                    "choose a folder that all machines share"
                )

    # Before and after the loop.

    def evaluate(self, when: str, trainer, job: Job) -> Evaluation:
        """Evaluate on all processes; sample on the main one, which leaves the samples in `out`."""
        eval_loss = trainer.evaluate()["eval_loss"]
        self.say(f"evaluation loss {when}: {eval_loss:.4f}")
        return processes.from_main(lambda: self.keep_samples(when, trainer, job, eval_loss))

    def keep_samples(self, when: str, trainer, job: Job, eval_loss: float) -> Evaluation:
        seed = job.recipe.seed
        texts = drawn(lambda: sample_texts(trainer, job.corpus, eval_loss, seed), self.say)
        if texts:
            write_whole(self.out / f"{when}.txt", "\n\n".join(texts) + "\n")
            self.say(f"a sample {when} the run:\n{texts[0]}\n")
        most = job.yardstick.sampled_tokens
        tunes = drawn(lambda: sample_tunes(trainer, job.corpus, eval_loss, seed, most), self.say)
        verdicts = [judge(tune) for tune in tunes]
        result = evaluation_of(eval_loss, verdicts)
        if tunes:
            titles = [
                f"sample {number} {when} the run: {verdict}"
                for number, verdict in enumerate(verdicts, 1)
            ]
            write_whole(self.out / f"{when}.abc", tune_book(tunes, titles))
            valid, bars = count_bars(verdicts)
            self.say(f"sample 1 {when}: {verdicts[0]}\n{tunes[0]}")
            self.say(
                f"all {len(tunes)} samples {when}: {result.tunes_parsed} parse, "
                f"{valid} of {bars} bars add up"
            )
            if when == "after" and result.tunes_parsed:
                let_it_be_heard(tunes, verdicts, self.out, self.say)
        return result

    def merge(self, job: Job) -> None:
        """Leave base and adapter as one model, which needs no peft."""
        if job.recipe.load_in_4bit:
            self.say(
                "merging: the adapter, which was trained beside weights of 4 bits, is added to the "
                f"model's own in {job.recipe.dtype}; its loss may be another"
            )
        save_merged(job, self.out)
        self.say(f"base and adapter as one model: {self.out / 'merged'}")

    def finish(self, job: Job, run: Run) -> None:
        """The last files: the picture of the loss, and `run.json`, which says that all is done."""
        picture = loss_picture(run.history)
        write_whole(self.out / "loss.png", picture.png)
        self.say(picture.alt)
        if run.diverged:
            self.say(divergence_in_words(run))
        elif run.eval_loss_after > run.eval_loss_before:
            self.say(
                f"the evaluation loss ends {run.eval_loss_after - run.eval_loss_before:.4f} above "
                "where it began: on this text the run made the model worse; try a lower "
                "learning_rate, or fewer epochs"
            )
        write_whole(self.out / "run.json", run.to_json())


def tell_where_to_stop(job: Job) -> None:
    """Let the model's own settings for generation name the marks by which its answers end.

    They are saved with the model, so that it stops wherever it is used.
    """
    if job.corpus.kind != "messages" or job.model.generation_config is None:
        return
    settings = job.model.generation_config
    settings.eos_token_id = stop_tokens("messages", job.tokenizer, settings) or None


def let_it_be_heard(tunes: list[str], verdicts: list[Verdict], out: Path, say) -> None:
    """Leave sound and piano roll of the first sampled tune that parses, and say which it is."""
    number = next(number for number, verdict in enumerate(verdicts) if verdict.parses)
    tune = parse(tunes[number])
    # Made in memory first, so that no half-written file lies under the final name.
    sound = io.BytesIO()
    write_wav(tune, sound)
    write_whole(out / "after.wav", sound.getvalue())
    picture = piano_roll(tune, f"sample {number + 1}, the first that parses")
    write_whole(out / "after.png", picture.png)
    say(f"hear it: {out / 'after.wav'}. {picture.alt}")


def _states_in_words(job: Job, run: Run) -> str:
    """What the optimizer held, beside what `memory` predicts from the model's shapes."""
    held = run.optimizer_state_bytes
    quantized = run.optimizer_state_dtypes.get("uint8", {"bytes": 0})["bytes"]
    words = (
        f"optimizer state: {held / 1e6:.3f} MB held, {quantized / max(held, 1):.0%} of it in 8 bits"
    )
    try:
        parameters = parameters_of(job.model, job.recipe)
        predicted = state_bytes(parameters, job.capability.optim, trained_dtype(job.recipe))
    except BadInput:  # an optimizer whose states nobody predicts
        return words
    return f"{words}; {predicted / 1e6:.3f} MB predicted"


def _make_progress_bar(job: Job, stop: StopSignal, say, shown: bool):
    """A Trainer callback that draws a bar, to be closed in the end, and grants the wish to stop."""
    from tqdm.auto import tqdm
    from transformers import TrainerCallback

    class ProgressBar(TrainerCallback):
        bar = None
        loss = None
        first_token = 0

        def on_train_begin(self, args, state, control, **kwargs):
            self.first_token = state.num_input_tokens_seen
            self.bar = tqdm(
                total=job.accounting.updates,
                initial=state.global_step,
                unit="update",
                disable=not shown,
            )

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(state.global_step - self.bar.n)
            # tqdm knows when this process began; a resumed run's first tokens were not its own.
            seconds = max(self.bar.format_dict["elapsed"], 1e-9)
            tokens = state.num_input_tokens_seen - self.first_token
            beside = {"tokens/s": f"{tokens / seconds:,.0f}"}
            if self.loss is not None:
                beside["loss"] = f"{self.loss:.3f}"
            self.bar.set_postfix(beside, refresh=False)
            # Every process asks here, whether a signal reached it or not: none may train on alone.
            stop.agree()
            if stop.agreed:
                say("stopping here, with a checkpoint; a second signal stops at once, without")
                control.should_save = True
                control.should_training_stop = True

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.loss = (logs or {}).get("loss", self.loss)

        def close(self):
            if self.bar is not None:
                self.bar.close()

    return ProgressBar()
