"""Bytes of many fine-tunes of one model, predicted with one walk where many would do the same."""

from hpkit.memory import (
    Memory,
    Parameter,
    activation_bytes,
    all_parameters,
    length_of,
    multiplies_in_16_bits,
    without_activations,
)
from hpkit.recipe import ADAPTER, FULL, QUANTIZATION, Recipe


class Predictor:
    """predict_memory of one `source` for many recipes, sooner.

    Activations take a walk through the model of up to seconds. For each length and precision two
    batches are walked, and further ones lie on the line through them, to the byte (a test
    compares). A batch of 1 keeps a few bytes less than the line says, so it is always walked.
    Raises BadInput.
    """

    def __init__(self, source):
        self.source = source
        # Adapter and quantization -> the parameters with them.
        self._parameters = {}
        # Length, 16 bits or not, dtype, adapter and quantization -> {batch: bytes}.
        self._walked = {}

    def all_parameters(self, recipe: Recipe = FULL) -> list[Parameter]:
        """What `hpkit.memory.all_parameters` says of the source."""
        adapted = _adapted_as(recipe)
        if adapted not in self._parameters:
            self._parameters[adapted] = all_parameters(self.source, recipe)
        return self._parameters[adapted]

    def predict(self, recipe: Recipe) -> Memory:
        """As predict_memory."""
        held = without_activations(self.all_parameters(recipe), recipe)
        return held._replace(activations=self._activation_bytes(recipe))

    def _activation_bytes(self, recipe: Recipe) -> int:
        batch = recipe.per_device_train_batch_size
        length = length_of(self.source, recipe)
        bf16 = multiplies_in_16_bits(recipe)
        walked = self._walked.setdefault((length, bf16, recipe.dtype, _adapted_as(recipe)), {})
        if batch in walked:
            return walked[batch]
        line = [known for known in walked if known > 1][:2]
        if batch > 1 and len(line) == 2:
            first, second = line
            rise = walked[second] - walked[first]
            return walked[first] + rise * (batch - first) // (second - first)
        walked[batch] = activation_bytes(
            self.source, batch, length, bf16, dtype=recipe.dtype, adapted_by=recipe
        )
        return walked[batch]

    def largest_batch(self, recipe: Recipe, free: int) -> int:
        """The largest batch up to the recipe's own that is predicted to take at most `free` bytes.

        0 where none does.
        """
        memory = self.predict(recipe)
        if memory.total - memory.activations > free:
            return 0
        fits = 0
        too_large = recipe.per_device_train_batch_size + 1  # larger than asked for, at any rate
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self.predict(recipe.replace(per_device_train_batch_size=middle)).total <= free:
                fits = middle
            else:
                too_large = middle
        return fits


def _adapted_as(recipe: Recipe) -> tuple:
    """What two recipes must share so that their models have the same tensors."""
    in_force = recipe.in_force
    return tuple(getattr(in_force, name) for name in (*ADAPTER, *QUANTIZATION))
