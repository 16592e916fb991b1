"""What the tests of the reading of files share."""

import pytest

from hpkit.check import read_calls

from .examples import write


@pytest.fixture
def read(tmp_path):
    """`read(source)`: the calls of a script."""
    return lambda source: read_calls(write(tmp_path, source))[0]


@pytest.fixture
def only(read):
    """`only(source)`: (arguments, unread) of a script's single call."""

    def one(source: str):
        (call,) = read(source)
        return call.arguments, call.unread

    return one
