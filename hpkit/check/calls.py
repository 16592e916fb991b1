"""What is found in a file: a place that sets training arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpkit.preflight.written import Written


@dataclass(frozen=True)
class Call:
    """A place that sets training arguments. Lines count from 1, in a notebook within their cell.

    `file`: the path as given. `cell`: the number of the code cell among all cells from 1, None in
    a script. `arguments`: name -> value where the text tells it. `lines`: argument -> where it is
    written. `places`: what the code around says -> its (cell, line). `written`: how it stands
    there. `is_parser`: the values come from a command line, and only defaults are known.
    `script`: what a launch line starts, where that is no tool with names that are known.
    """

    file: str
    cell: int | None
    line: int
    arguments: dict
    lines: dict
    written: Written
    places: Mapping[str, tuple[int | None, int]] = field(default_factory=dict)
    is_parser: bool = False
    script: str = ""

    @property
    def name(self) -> str:
        """The last part of the callable's name, with import aliases undone."""
        return self.written.name

    @property
    def unread(self) -> tuple[str, ...]:
        """Names of arguments that the text does not tell, an unpacked mapping as "**name", and of
        those that are set elsewhere.
        """
        return self.written.unread + self.written.set_elsewhere

    @property
    def unseeded(self) -> str | None:
        """What draws random weights in this file before a seed is set; None where nothing does."""
        return self.written.unseeded
