"""The widget of block-wise 8-bit quantization, over the averages of a real optimizer."""

import ipywidgets

from hpkit.errors import BadInput
from hpkit.figures.base import QuantizationPicture
from hpkit.labs.blockwise import BLOCK_SIZES, CODE_BOOKS, ROUNDINGS, harm, quantize, with_outlier
from hpkit.widgets.base import Interactive, decades, paragraphs, slider

WHOLE = "whole tensor"


class QuantizationExplorer(Interactive):
    """One average of an optimizer in 8 bits: block size, code book and an outlier, and what comes back wrong.

    `averages` maps names of parameters to `{"exp_avg": tensor, "exp_avg_sq": tensor}`, as blockwise.averages reads them
    off a live Trainer. Attributes to set: `parameter`, `average`, `block_size` (a string of digits or `whole tensor`; a
    number will do), `code_book`, `rounding`, and `outlier`, in times the largest value, 0 for none. `quantized`,
    `without` (None while there is no outlier) and `harm` follow from them.
    """

    quantized, without, harm = None, None, None

    def __init__(self, averages: dict[str, dict]):
        if not averages:
            raise BadInput("averages: expected those of at least one parameter, got none; take them off a Trainer with blockwise.averages")
        self._averages, self._figure = averages, QuantizationPicture()
        largest = max(averages, key=lambda name: averages[name]["exp_avg"].numel())
        sizes = (*map(str, BLOCK_SIZES), WHOLE)
        controls = {
            "parameter": ipywidgets.Dropdown(options=tuple(averages), description="parameter"),
            "average": ipywidgets.Dropdown(options=("exp_avg", "exp_avg_sq"), description="average"),
            "block_size": ipywidgets.SelectionSlider(options=sizes, value="256", description="block_size"),
            "code_book": ipywidgets.Dropdown(options=CODE_BOOKS, description="code book"),
            "rounding": ipywidgets.Dropdown(options=ROUNDINGS, description="rounding"),
            "outlier": slider("outlier (times the largest)", [0, *decades(0, 6, int)]),
        }
        super().__init__(controls, {"parameter": largest})

    def _put(self, name: str, value) -> None:
        if name != "block_size":
            return super()._put(name, value)
        options = self.controls[name].options
        if str(value) not in options:
            raise BadInput(f"block_size: expected one of {', '.join(options)}, got {value!r}")
        self.controls[name].value = str(value)

    def _quantize(self, tensor):
        size = None if self.block_size == WHOLE else int(self.block_size)
        return quantize(tensor, size, self.code_book, signed=self.average == "exp_avg", rounding=self.rounding)

    def _draw(self):
        tensor, place = self._averages[self.parameter][self.average], None
        self.quantized, self.without, self.harm = self._quantize(tensor), None, None
        if self.outlier:
            spoilt, place = with_outlier(tensor, self.outlier)
            self.without, self.quantized = self.quantized, self._quantize(spoilt)
            self.harm = harm(self.without, self.quantized, place)
        return self._figure.draw(self.quantized, f"{self.parameter}, {self.average}", self.without, place), paragraphs(self._lines())

    def _lines(self) -> list[str]:
        import torch

        one = self.quantized
        count, blocks = len(one.before), len(one.scales)
        lines = [
            f"{count:,} values in {blocks:,} block{'s' * (blocks > 1)}: {one.codes.nbytes:,} bytes of codes and {one.scales.nbytes:,} of "
            f"scales, {one.bytes / count:.4g} bytes a value instead of 4",
            f"Mean relative error {one.mean_relative_error:.2%}; {one.became_zero:.2%} of the values come back as zero, "
            f"{one.half_wrong:.2%} wrong by half or more",
        ]
        if self.rounding == "cpu":
            floor = quantize(torch.tensor([0.0, 1.0]), None, self.code_book, self.average == "exp_avg", "cpu").after[0]
            back = f"as {floor:.2g} of its block's largest" if floor else "as zero"
            lines.append(f"Rounded as bitsandbytes rounds on a CPU, through a table of 65,536 equal steps: a zero comes back {back}")
        else:
            lines.append("Rounded to the nearest code point, as the code book is meant")
        if self.harm:
            block = "the others of its block" if blocks > 1 else "them all"
            lines.append(
                f"The outlier, {self.outlier:g} times the largest value, was put there by this widget. Of {count - 1:,} other values "
                f"{self.harm.changed:,} come back otherwise than without it; the mean relative error of {block} goes from "
                f"{self.harm.error_before:.2%} to {self.harm.error_after:.2%}"
            )
        return lines
