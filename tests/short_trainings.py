"""In a kernel with this startup file every training of hpkit ends after 12 updates.

The layers that look at rendering and at installation copy it into profile_default/startup of an
IPYTHONDIR of their own. What trainings find is the matter of the notebooks' own layer.
"""


def _shorten_trainings():
    # IPython runs this file in the notebook's own namespace: an import or a name out here would
    # stand in for one that a notebook has forgotten.
    import importlib.util

    from IPython import get_ipython

    shell = get_ipython()

    def wrap_make_trainer(info):
        # On Colab the first cell installs hpkit. Before, a mere folder of its name may lie about,
        # which has no origin, and must not be imported as a package.
        found = importlib.util.find_spec("hpkit")
        if found is None or found.origin is None:
            return
        shell.events.unregister("pre_run_cell", wrap_make_trainer)
        from hpkit.finetune import training

        make_trainer = training.make_trainer

        def make_short_trainer(*arguments, **named):
            from transformers import TrainerCallback

            class EndEarly(TrainerCallback):
                def on_step_end(self, args, state, control, **kwargs):
                    if state.global_step >= 12:
                        control.should_log = True
                        control.should_training_stop = True

            trainer = make_trainer(*arguments, **named)
            trainer.add_callback(EndEarly)
            return trainer

        training.make_trainer = make_short_trainer

    shell.events.register("pre_run_cell", wrap_make_trainer)


_shorten_trainings()
del _shorten_trainings
