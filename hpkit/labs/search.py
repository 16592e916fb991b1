"""Search for a learning rate with Optuna: few trials, each a short run.

Through the Trainer's own `hyperparameter_search`. Optuna is no dependency of hpkit. Without it,
`search_learning_rate` says what to install.
"""

import importlib.util
import tempfile

from hpkit.capability import decide, forget_32bit_overrides, probe
from hpkit.corpus.blocks import blocks_of
from hpkit.corpus.load import load_corpus
from hpkit.errors import BadInput
from hpkit.model import context_length, load_model, quiet_transformers
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

    Each trial is a whole run of `recipe` on a model loaded anew, at a rate from `low` to `high`:
    the first ten drawn evenly over powers of ten, later ones near those that did well (the default
    of Optuna's TPE sampler). Its seed is the recipe's. `model` and `corpus` are named as in
    `hpkit.finetune.finetune`. Raises BadInput where Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise BadInput(
            "a search needs Optuna, which is not installed here: pip install optuna, "
            "then run this again"
        )
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    tried = []
    with quiet_transformers(), tempfile.TemporaryDirectory() as out:
        trainer = _trainer_of_trials(recipe, model, corpus, out)

        def drawn_rate(trial) -> dict:
            return {"learning_rate": trial.suggest_float("learning_rate", low, high, log=True)}

        def loss_of_trial(metrics: dict) -> float:
            tried.append((trainer.args.learning_rate, metrics["eval_loss"]))
            return metrics["eval_loss"]

        trainer.hyperparameter_search(
            hp_space=drawn_rate,
            compute_objective=loss_of_trial,
            n_trials=trials,
            direction="minimize",
            backend="optuna",
            sampler=optuna.samplers.TPESampler(seed=recipe.seed),
        )
    return sorted(tried, key=lambda trial: trial[1])


def _trainer_of_trials(recipe: Recipe, model: str, corpus: str, out: str):
    """A Trainer that can make the run of `recipe` often, each time on a model loaded anew."""
    from transformers import PrinterCallback, Trainer, default_data_collator

    def load_anew():
        # bitsandbytes keeps overrides by a parameter's place, and these are other parameters.
        forget_32bit_overrides()
        loaded, _ = load_model(model, recipe.dtype)
        # The Trainer does so for its first model alone; with a cache, documents see each other.
        loaded.config.use_cache = False
        return loaded

    first, tokenizer = load_model(model, recipe.dtype)
    length = recipe.max_seq_length or context_length(first)
    learn, held_out = blocks_of(load_corpus(corpus), tokenizer, length)
    arguments = recipe.training_arguments(
        out,
        save_strategy="no",
        eval_strategy="no",
        disable_tqdm=True,
        **decide(recipe, probe()).settings,
    )
    trainer = Trainer(
        args=arguments,
        data_collator=default_data_collator,
        train_dataset=learn,
        eval_dataset=held_out,
        model_init=load_anew,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
