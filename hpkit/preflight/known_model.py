"""What rules can know of a model: of a live one, a config, a name or a size."""

from dataclasses import dataclass
from functools import cached_property

from hpkit.adapters import is_adapted
from hpkit.errors import BadInput
from hpkit.model import read_config
from hpkit.predictor import Predictor
from hpkit.shapes import config_of


@dataclass(frozen=True)
class KnownModel:
    """A model as rules see it.

    `source` is what `hpkit.memory` takes. `head`: the class that computes the loss. `dtype`: the
    weights' format. `frozen`: some weights are not trained.
    """

    source: object
    head: type | None = None
    dtype: str | None = None
    frozen: bool = False

    @cached_property
    def predictor(self) -> Predictor:
        """Its bytes, each walk through the model remembered: a plan is changed and asked again."""
        return Predictor(self.source)

    @property
    def predictable(self) -> bool:
        """A causal language model of which all is trained, or an adapter."""
        if self.frozen and not is_adapted(self.source):
            return False
        return self.head is None or self.head.__name__.endswith(("ForCausalLM", "LMHeadModel"))


def look_at_model(model) -> KnownModel | None:
    """What rules can know of a live model, a config, a name or a size. Raises BadInput."""
    if model is None:
        return None
    if isinstance(model, str):
        try:
            config_of(model)
            return KnownModel(model)
        except BadInput:  # no size such as "7B", so a name
            model = read_config(model)
    import torch

    if isinstance(model, torch.nn.Module):
        return _look_at_live_model(model)
    import transformers

    head = (getattr(model, "architectures", None) or [""])[0]
    dtype = getattr(model, "dtype", None)
    return KnownModel(
        model,
        head=getattr(transformers, head, None),
        dtype=_dtype_name(dtype) if dtype else None,
    )


def _look_at_live_model(model) -> KnownModel:
    head = model
    # An adapter of peft hides the class that computes the loss.
    if hasattr(model, "get_base_model"):
        head = model.get_base_model()
    return KnownModel(
        model,
        head=type(head),
        dtype=_dtype_name(next(model.parameters()).dtype),
        frozen=not all(weight.requires_grad for weight in model.parameters()),
    )


def _dtype_name(dtype) -> str:
    return str(dtype).removeprefix("torch.")
