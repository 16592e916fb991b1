"""Several processes of one run, as torchrun or accelerate launch start them.

One of them speaks and writes, and all agree. accelerate carries the messages. With one process,
nothing here imports torch or does anything.
"""

import atexit
import logging
import os
import sys
import time
import warnings
from contextlib import contextmanager

from hpkit.errors import BadInput


def count() -> int:
    """How many processes train together; 1 unless torchrun or accelerate launch started several."""
    # Both set LOCAL_RANK; WORLD_SIZE alone may stem from a cluster's own scheduler.
    if "LOCAL_RANK" not in os.environ:
        return 1
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Is this the one process that speaks and writes?"""
    return count() == 1 or os.environ.get("RANK") == "0"


def launcher() -> str:
    """What the command line began with, up to `finetune`."""
    if count() == 1:
        return "hpkit"
    # On several machines torchrun was told an address as well, which nobody can tell from within.
    options = "…"
    if os.environ.get("LOCAL_WORLD_SIZE") == str(count()):
        options = f"--nproc-per-node {count()}"
    return f"torchrun {options} -m hpkit"


def join() -> None:
    """Meet the other processes, and let the main one alone be heard.

    The first call waits for all of them; later ones return at once.
    """
    if count() == 1:
        return
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        raise BadInput(
            "FSDP was asked for, and accelerate cannot evaluate a model before its training there; "
            "on a CPU it would train without FSDP and not say so. Start with torchrun, or "
            "accelerate launch --multi_gpu: each process then holds the whole model"
        )
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available())
    atexit.unregister(_leave)
    atexit.register(_leave)
    if not is_main():
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")


def _leave() -> None:
    """Part from the other processes as the program ends.

    gloo's threads now and then abort a program that ends without it.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()


def end(status: int) -> None:
    """End this process with `status` at once, where it is one of several and all is written.

    torch 2.13's DistributedDataParallel keeps a hold on its process group for ever: gloo's threads
    outlive `destroy_process_group`, and one of them, now and then, aborts an interpreter that is
    being taken down.
    """
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def let_main_end_first() -> None:
    """Give the main process time for its last line: torchrun ends all as soon as one has ended.

    No message passes, for the main process may have met something else than this one.
    """
    if not is_main():
        time.sleep(5)


def from_main(function):
    """Call `function` on the main process alone; every process gets what it returned or raised."""
    if count() == 1:
        return function()
    from accelerate.utils import broadcast_object_list

    join()
    outcome = [None, None]
    if is_main():
        try:
            outcome[0] = function()
        except Exception as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextmanager
def all_or_none():
    """Where one process refuses with BadInput, every one does, with the same line.

    None is left waiting for it.
    """
    error = None
    try:
        yield
    except BadInput as refusal:
        error = refusal
    if count() > 1:
        from accelerate.utils import gather_object

        errors = [other for other in gather_object([error]) if other is not None]
        error = errors[0] if errors else None
    if error is not None:
        raise error


def largest(number: int) -> int:
    """The largest of the numbers that the processes bring."""
    return max(_all_numbers(number))


def smallest(number: int) -> int:
    """The smallest of the numbers that the processes bring."""
    return min(_all_numbers(number))


def _all_numbers(number: int) -> list[int]:
    if count() == 1:
        return [number]
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather

    return gather(torch.tensor([number], device=PartialState().device)).tolist()


class _WithoutRepeats:
    """What `without_repeats` puts in front of a Trainer."""

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches = []
        last = False
        for _ in range(num_batches):
            try:
                batches.append(next(epoch_iterator))
            except StopIteration:
                break
            last = self.accelerator.gradient_state.end_of_dataloader
        if last:
            repeats = self._unlabel_repeats(
                batches[-1], len(self.train_dataset), self._train_batch_size
            )
            self.state.num_input_tokens_seen -= repeats * batches[-1]["input_ids"].shape[1]
        return super().get_batch_samples(iter(batches), num_batches, device)

    def evaluate(self, *arguments, **options):
        measured = super().evaluate(*arguments, **options)
        if not self.is_in_train:
            # accelerate takes a model that it has prepared for evaluation as prepared for
            # training too; it would then train without DistributedDataParallel, each process by
            # its own gradients, and not say so.
            self.model._is_accelerate_prepared = False
        return measured

    def prediction_step(self, model, inputs, *arguments, **options):
        if self.accelerator.gradient_state.end_of_dataloader:
            self._unlabel_repeats(inputs, len(self.eval_dataset), self.args.eval_batch_size)
        loss, *rest = super().prediction_step(model, inputs, *arguments, **options)
        # Each process's share of the sum becomes the mean of all, for what stands for repeats
        # is cut off afterwards.
        return self.accelerator.reduce(loss, "mean"), *rest

    def _unlabel_repeats(self, batch, examples: int, batch_size: int) -> int:
        """Blank the repeats in this process's last batch; how many all processes have
        together.
        """
        together = batch_size * self.accelerator.num_processes
        repeats = -examples % together
        own = together - repeats - self.accelerator.process_index * batch_size
        batch["labels"][max(own, 0) :] = -100
        return repeats


def without_repeats(Trainer):
    """transformers' Trainer, which here learns from and counts every example once.

    An epoch's last examples rarely suffice for a batch on every process. accelerate fills up with
    examples from the epoch's beginning, so that all processes take part. Here these repeats have no
    labels (-100).
    """
    if count() == 1:
        return Trainer
    return type("TrainerWithoutRepeats", (_WithoutRepeats, Trainer), {})
