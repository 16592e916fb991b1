"""Small updates to bf16 weights: rounded away, and three ways to keep them.

One weight rule at a time, on a small problem. Zamirai et al., Revisiting BFloat16 Training (2020),
arXiv 2010.06192, study stochastic rounding and Kahan summation.
"""

from hpkit.errors import BadInput, did_you_mean

#: The format of the weights, and what becomes of the part of an update that it has no bits for.
RULES = (
    "fp32",
    "bf16",
    "bf16 + fp32 masters",
    "bf16, stochastic rounding",
    "bf16, Kahan summation",
)
#: With these, updates go to fp32 weights.
_FP32_RULES = ("fp32", "bf16 + fp32 masters")


def round_stochastically(values, generator):
    """fp32 values as bf16, up or down at random; the mean of many roundings is the value itself.

    A random number from 0 to 2^16 - 1 is added to the 16 bits that bf16 lacks; the carry does the
    rest.
    """
    import torch

    noise = torch.randint(0, 2**16, values.shape, generator=generator, dtype=torch.int32)
    carried = values.float().view(torch.int32) + noise
    bf16_bits = carried & -(2**16)  # the 16 bits that bf16 lacks become 0
    return bf16_bits.view(torch.float32).bfloat16()


class Weights:
    """Weights that take updates by one of RULES.

    `values`: what the model would compute with, as fp32.
    """

    def __init__(self, start, rule: str, seed: int = 0):
        import torch

        if rule not in RULES:
            raise BadInput(
                f"rule: expected one of {', '.join(RULES)}, got {rule!r}{did_you_mean(rule, RULES)}"
            )
        self.rule = rule
        self._weights = start.float() if rule in _FP32_RULES else start.bfloat16()
        # Kahan: what was rounded away so far, itself in bf16.
        self._lost = torch.zeros_like(self._weights)
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def values(self):
        """What the model would compute with, as fp32."""
        if self.rule == "bf16 + fp32 masters":
            # The masters are for updates alone; products see their roundings.
            return self._weights.bfloat16().float()
        return self._weights.float()

    @property
    def bytes_each(self) -> int:
        """Bytes that a weight takes, with what its rule keeps beside it."""
        return {"fp32": 4, "bf16 + fp32 masters": 6, "bf16, Kahan summation": 4}.get(self.rule, 2)

    def add(self, update) -> None:
        """Add an update (fp32, of the weights' shape)."""
        if self.rule in _FP32_RULES:
            self._weights = self._weights + update
        elif self.rule == "bf16":
            self._weights = self._weights + update.bfloat16()
        elif self.rule == "bf16, stochastic rounding":
            self._weights = round_stochastically(self._weights.float() + update, self._generator)
        else:
            owed = update.bfloat16() + self._lost
            moved = self._weights + owed
            # What of it the sum took in is the difference of the weights; the rest stays owed.
            self._lost = owed - (moved - self._weights)
            self._weights = moved


def walk(
    rule: str, updates: int = 400, size: float = 1e-4, count: int = 2000, seed: int = 0
) -> list[float]:
    """Mean distance of `count` weights from where they should be, after 0, 1, 2, ... updates.

    The weights start as those of a trained model do, spread by 0.02 around 0; each goes to a place
    0.02 away, by AdamW's kind of update: `size`, the learning rate, towards the goal, and never
    past it.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    # Rounded to bf16, so that weights of all rules start alike.
    start = (0.02 * torch.randn(count, generator=generator)).bfloat16().float()
    goal = start + 0.02 * torch.sign(torch.randn(count, generator=generator))
    weights = Weights(start, rule, seed)
    distances = []
    for _ in range(updates):
        apart = goal - weights.values
        distances.append(apart.abs().mean().item())
        weights.add(apart.clamp(-size, size))
    distances.append((goal - weights.values).abs().mean().item())
    return distances
