"""Search for a learning rate with Optuna, through the Trainer's own `hyperparameter_search`: few trials, each a short run.

Optuna is no dependency of hpkit. Without it, `search_learning_rate` says what to install.
"""

import importlib.util
import tempfile

from hpkit.capability import decide, forget_32bit_overrides, probe
from hpkit.corpus.blocks import blocks_of
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput
from hpkit.model import context_length, load_model
from hpkit.recipe import STARTER, Recipe


def search_learning_rate(
    recipe: Recipe = STARTER,
    model: str = "starter",
    corpus: str = "airdsAirs",
    trials: int = 4,
    low: float = 1e-4,
    high: float = 1e-2,
) -> list[tuple[float, float]]:
    """(learning rate, evaluation loss in nats per token) of each trial, the best first.

    Each trial is a whole run of `recipe` on a model loaded anew, at a rate from `low` to `high`: the first ten drawn evenly
    over powers of ten, later ones near those that did well (the default of Optuna's TPE sampler). Its seed is the
    recipe's. `model` and `corpus` are named as in `hpkit.finetune.finetune`. Raises BadInput where Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise BadInput(
            "a search needs Optuna, which is not installed here: pip install optuna, then run this again"
        )
    import optuna
    from transformers import PrinterCallback, Trainer, default_data_collator
    from transformers.utils import logging

    def anew():
        forget_32bit_overrides()  # bitsandbytes keeps them by parameter, and these are other parameters
        trained, _ = load_model(model, recipe.dtype)
        trained.config.use_cache = False  # the Trainer does so for its first model alone; with a cache, documents see each other
        return trained

    def loss_of_trial(metrics: dict) -> float:
        tried.append((trainer.args.learning_rate, metrics["eval_loss"]))
        return metrics["eval_loss"]

    tried, bars = [], logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        first, tokenizer = load_model(model, recipe.dtype)
        length = recipe.max_seq_length or context_length(first)
        learn, held_out = blocks_of(load_corpus(corpus), tokenizer, length)
        quiet = dict(save_strategy="no", eval_strategy="no", disable_tqdm=True)
        with tempfile.TemporaryDirectory() as out:
            arguments = recipe.training_arguments(out, **quiet, **decide(recipe, probe()).settings)
            trainer = Trainer(
                args=arguments,
                data_collator=default_data_collator,
                train_dataset=learn,
                eval_dataset=held_out,
                model_init=anew,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.hyperparameter_search(
                hp_space=lambda trial: {
                    "learning_rate": trial.suggest_float("learning_rate", low, high, log=True)
                },
                compute_objective=loss_of_trial,
                n_trials=trials,
                direction="minimize",
                backend="optuna",
                sampler=optuna.samplers.TPESampler(seed=recipe.seed),
            )
    finally:
        if bars:
            logging.enable_progress_bar()
    return sorted(tried, key=lambda trial: trial[1])
