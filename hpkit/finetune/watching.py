"""Callbacks of the Trainer that look at a run: they hand on, or measure, and change nothing."""

import math

from hpkit.adapters import trained_weights
from hpkit.finetune.run import LOGGED


def watcher(updates: int, watch):
    """A callback that hands every one of `updates`, and whatever is logged, to `watch`."""
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            watch(state.global_step, updates, {})

        def on_log(self, args, state, control, logs=None, **kwargs):
            logged = {name: value for name, value in (logs or {}).items() if name in LOGGED}
            if logged:
                watch(state.global_step, updates, logged)

    return Watcher()


def update_size():
    """A callback that logs `update_rms` beside every training loss: how far an update moved.

    It is the root mean square, over all trained weights, of their change in that update, divided by
    the learning rate; None at rate 0. Adam's first update has about 1, whatever the gradients.
    """
    import torch
    from transformers import TrainerCallback

    def all_weights(model):
        # In fp32: the difference of two bf16 numbers may have no bf16 number of its own.
        weights = [weight.float() for weight in trained_weights(model)]
        return torch.nn.utils.parameters_to_vector(weights)

    class UpdateSize(TrainerCallback):
        def on_train_begin(self, args, state, control, model, **kwargs):
            self.weights = all_weights(model)

        def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs):
            self.rate = optimizer.param_groups[0]["lr"]

        def on_optimizer_step(self, args, state, control, model, **kwargs):
            weights = all_weights(model)
            change = torch.linalg.vector_norm(weights - self.weights).item()
            self.size = None
            if self.rate:
                self.size = change / math.sqrt(weights.numel()) / self.rate
            self.weights = weights

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in (logs or {}):
                # The Trainer has written its log already, and hands a copy on.
                state.log_history[-1]["update_rms"] = self.size

    return UpdateSize()


def old_text(trainer, blocks: list[dict]):
    """A callback: every evaluation of `trainer` is followed by one on `blocks`, logged as
    `eval_old_loss`."""
    from transformers import TrainerCallback

    class OldText(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            # Its own evaluation comes here too, and has no eval_loss.
            if "eval_loss" in metrics:
                trainer.evaluate(blocks, metric_key_prefix="eval_old")

    return OldText()
