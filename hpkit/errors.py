"""The one exception for a user's mistake, and the guess at what was meant."""

import difflib
import textwrap


class BadInput(ValueError):
    """Something the user can mend. Its text is one line: what was expected, what came, what to do.

    The command line prints the line and ends with status 2; a notebook shows it as an ordinary
    error.
    """

    def __init__(self, message: str):
        # Texts of other libraries, quoted in a message, may have lines of their own.
        super().__init__(" ".join(str(message).split()))


def did_you_mean(word: str, choices) -> str:
    """`" (did you mean learning_rate?)"`, to be put behind a message.

    An empty string when nothing in `choices` is near `word`.
    """
    near = nearest(word, choices)
    return f" (did you mean {near}?)" if near else ""


def nearest(word: str, choices, cutoff: float = 0.5) -> str | None:
    """The choice that is most like `word`; None where none is as like as `cutoff`, of 1."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=cutoff)
    return near[0] if near else None


def in_one_line(error: Exception) -> str:
    """Another library's error to be quoted in a message: its type, and its text up to a line's end.

    At most 200 characters.
    """
    words = type(error).__name__
    first_line = str(error).strip().partition("\n")[0]
    if first_line:
        words += f": {first_line}"
    return textwrap.shorten(words, 200, placeholder=" …")
