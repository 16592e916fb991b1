"""hpkit: learn every fine-tuning hyperparameter by moving it.

`from hpkit.recipe import STARTER` and `from hpkit.finetune import finetune` are enough for a run.
"""
