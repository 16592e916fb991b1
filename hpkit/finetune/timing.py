"""How long a run would take: a few of its own updates, evaluations and samples, timed, scaled up.

Everything happens in memory, on the job's own model, which is of no use for a run afterwards.
"""

import os
import time
from functools import partial
from typing import NamedTuple

from hpkit.finetune.samples import drawn, most_sampled, sample_texts, sample_tunes
from hpkit.finetune.training import Job, fit, make_trainer
from hpkit.formatting import plural

#: Updates are timed until so many seconds or so many updates are reached, but always one.
ENOUGH_SECONDS = 3.0
ENOUGH_UPDATES = 20
TIMED_BATCHES = 4
#: A sample's time rises with its tokens: two lengths, in tokens, tell how steeply.
SHORT_SAMPLE = 24
LONGER_SAMPLE = 96


class Timing(NamedTuple):
    """Seconds that each part of the whole run would take; `measured` says of what they are.

    `sampling` supposes that no sample ends early. `saving` leaves out the disk.
    """

    training: float
    evaluations: float
    sampling: float
    saving: float
    measured: str

    @property
    def total(self) -> float:
        """All four together, in seconds."""
        return self.training + self.evaluations + self.sampling + self.saving


def time_parts(job: Job) -> Timing:
    """Time a little of every part of the run, in the run's own order, and scale it up."""
    stopwatch = _make_stopwatch(job.capability.device)
    trainer = make_trainer(job, [stopwatch])
    evaluations, batches = _time_evaluations(trainer, job)
    sampling, tokens = _time_sampling(trainer, job)
    began = now(job.capability.device)
    fit(trainer, job.recipe)
    training = seconds_of_updates(began, stopwatch.ends, job.accounting.tokens)
    saving = _time_saving(trainer, job)
    measured = (
        f"the first {plural(len(stopwatch.ends), 'update')}, {batches}, {tokens}, and a checkpoint "
        "put into bytes, without the disk"
    )
    return Timing(training, evaluations, sampling, saving, measured)


def evaluations_of(job: Job) -> int:
    """How often the run evaluates: as the recipe asks, and once before and once after it."""
    return len(job.accounting.evaluate_at) + 2


def now(device: str) -> float:
    """Seconds on the clock, once the device has done what it was told to do."""
    if device == "cuda":
        import torch

        # A GPU works behind the program's back.
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of_updates(began: float, ends: list[tuple[float, int]], tokens: int) -> float:
    """Seconds for so many `tokens`: the first update as it was, the rest at the pace of the others.

    `ends`: (seconds on the clock, tokens seen so far) after each timed update.
    """
    first_end, first_tokens = ends[0]
    last_end, last_tokens = ends[-1]
    seconds = first_end - began
    if last_tokens > first_tokens:
        pace = (last_end - first_end) / (last_tokens - first_tokens)
        seconds += pace * (tokens - first_tokens)
    return seconds


def seconds_of_sample(short: tuple[int, float], longer: tuple[int, float], longest: int) -> float:
    """Seconds for a sample of `longest` tokens, by two shorter ones: (tokens, seconds) of each.

    A token takes longer the more stand before it, whose keys and values are gone through: n tokens
    take pace * n + rise * n ** 2.
    """
    pace_short = short[1] / short[0]
    pace_longer = longer[1] / longer[0]
    rise = max(pace_longer - pace_short, 0.0) / (longer[0] - short[0])
    pace = pace_longer - rise * longer[0]
    return pace * longest + rise * longest**2


def _make_stopwatch(device: str):
    """A Trainer callback that notes the end of each update, and stops the loop after a few."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def __init__(self):
            self.ends = []  # (seconds on the clock, tokens seen so far) of each update

        def on_step_end(self, args, state, control, **kwargs):
            self.ends.append((now(device), state.num_input_tokens_seen))
            # The first update is slower: it makes the optimizer's states, and may compile.
            seconds = self.ends[-1][0] - self.ends[0][0]
            after_the_first = len(self.ends) - 1
            if after_the_first and (seconds > ENOUGH_SECONDS or after_the_first == ENOUGH_UPDATES):
                control.should_training_stop = True
            self.only_train(control)

        def on_epoch_end(self, args, state, control, **kwargs):
            self.only_train(control)

        def only_train(self, control):
            # Transformers' own callback, which comes first, asks for these when they are due.
            control.should_evaluate = False
            control.should_save = False

    return Stopwatch()


def _time_evaluations(trainer, job: Job) -> tuple[float, str]:
    """Seconds of all evaluations, and what was timed: a few batches, after a first one."""
    size = trainer.args.eval_batch_size
    trainer.evaluate(job.blocks.evaluation[:size])
    timed = job.blocks.evaluation[: size * TIMED_BATCHES]
    began = now(job.capability.device)
    trainer.evaluate(timed)
    seconds = now(job.capability.device) - began
    seconds *= len(job.blocks.evaluation) / len(timed)
    words = f"{len(timed)} of {plural(len(job.blocks.evaluation), 'block')} evaluated"
    return evaluations_of(job) * seconds, words


def _time_sampling(trainer, job: Job) -> tuple[float, str]:
    """Seconds of the samples before and after the run, and what was timed: their beginnings."""
    longest = most_sampled(trainer.model, job.corpus, job.yardstick.sampled_tokens)
    short = min(SHORT_SAMPLE, longest)
    _time_sample(trainer, job, 2)  # the first sample of a process is slower
    seconds_short = _time_sample(trainer, job, short)
    # As many tokens as may take a second or two, where the model is small.
    longer = min(LONGER_SAMPLE, longest, int(short / seconds_short))
    if longer <= short:
        return 2 * seconds_short * longest / short, _sampled_in_words(short, longest)
    seconds_longer = _time_sample(trainer, job, longer)
    seconds = seconds_of_sample((short, seconds_short), (longer, seconds_longer), longest)
    return 2 * seconds, _sampled_in_words(longer, longest)


def _sampled_in_words(timed: int, longest: int) -> str:
    return f"{timed} of {plural(longest, 'token')} of each sample"


def _time_sample(trainer, job: Job, most_tokens: int) -> float:
    began = now(job.capability.device)
    # Any loss that is a number: of a broken model nothing is sampled. What fails in the run as well
    # is said there.
    for sampler in (sample_texts, sample_tunes):
        draw = partial(sampler, trainer, job.corpus, 0.0, job.recipe.seed, most_tokens)
        drawn(draw, say=lambda line: None)
    return now(job.capability.device) - began


def _time_saving(trainer, job: Job) -> float:
    """Seconds of all checkpoints and of the model after the run."""
    weights = _time_writing(trainer.model.state_dict())
    states = _time_writing(trainer.optimizer.state_dict())
    return len(job.accounting.save_at) * (weights + states) + weights


def _time_writing(values: dict) -> float:
    import torch

    began = time.perf_counter()
    # Everything is put into bytes, and nothing kept of them.
    with open(os.devnull, "wb") as nowhere:
        torch.save(values, nowhere)
    return time.perf_counter() - began
