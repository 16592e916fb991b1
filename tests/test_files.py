"""What stands between a run and the disk."""

import errno

import pytest

from hpkit.errors import BadInput
from hpkit.files import disk_errors_are_bad_input


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left"),
        RuntimeError("PytorchStreamWriter failed"),
        OSError(errno.EDQUOT, "x"),
    ],
)
def test_each_way_of_saying_the_disk_is_full(error, tmp_path):
    with (
        pytest.raises(BadInput, match="no space left"),
        disk_errors_are_bad_input(tmp_path, "go on"),
    ):
        raise error
    with (
        pytest.raises(RuntimeError, match="something else"),
        disk_errors_are_bad_input(tmp_path, "go on"),
    ):
        raise RuntimeError("something else")
