"""Parts and their merging: two halves make a whole, and what is spoilt is named and passed over."""

import hashlib

import pytest

from hpkit.__main__ import main
from hpkit.errors import BadInput
from hpkit.records import load_runs, merge, record

from .conftest import settled

pytestmark = pytest.mark.slow


def test_two_parts_merged_are_one_whole(recorded, grids_file, tmp_path, monkeypatch, hpkit_command):
    table = tmp_path / "runs.parquet"
    one = tmp_path / "a"
    other = tmp_path / "b"
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "6")
    done = hpkit_command("record", "--grids", grids_file, "--table", table, "--parts", one)
    assert done.returncode == 0 and "part 1 of 2: 2 runs" in done.stdout and not table.exists()
    assert f"hpkit record --merge {one}" in done.stdout
    record([recorded.grid], table, other, part=(2, 2), log=None, progress=False)
    assert not table.exists()
    for _ in range(2):  # merging again changes nothing
        assert main(["record", "--table", str(table), "--merge", str(one), str(other)]) == 0
        assert settled(load_runs(table)) == settled(load_runs(recorded.table))


def spoil(file, how: str) -> None:
    content = file.read_bytes()
    if how == "cut short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "a byte changed":
        middle = len(content) // 2
        changed = bytearray(content)
        changed[middle] ^= 1
        file.write_bytes(changed)
    else:
        # Its name has the right hash, so only reading it tells that it is no run.
        other = b"not a recorded run"
        digest = hashlib.sha256(other).hexdigest()[:16]
        file.with_name(f"0123456789abcdef-{digest}.parquet").write_bytes(other)
        file.unlink()


@pytest.mark.parametrize("how", ["cut short", "empty", "a byte changed", "something else"])
def test_a_spoilt_part_is_named_and_passed_over(how, recorded, tmp_path):
    table = tmp_path / "runs.parquet"
    copies = tmp_path / "parts"
    copies.mkdir()
    for file in recorded.parts.iterdir():
        (copies / file.name).write_bytes(file.read_bytes())
    spoil(sorted(copies.iterdir())[1], how)
    lines = []
    assert merge(table, [copies], lines.append) == 3
    assert "is not a whole recorded run: passed over" in lines[0]
    assert ".parquet" in lines[0] and "\n" not in lines[0]
    if how == "empty":  # its run is trained again, and the new part takes the spoilt one's place
        assert record([recorded.grid], table, copies, log=None, progress=False) == 1
        assert settled(load_runs(table)) == settled(load_runs(recorded.table))
        assert merge(table, [copies], lines.append) == 4 and len(lines) == 3


def test_a_spoilt_table_is_not_written_over(recorded, tmp_path):
    table = tmp_path / "runs.parquet"
    table.write_bytes(recorded.table.read_bytes()[:-9])
    for use in (lambda: load_runs(table), lambda: merge(table, [recorded.parts], None)):
        with pytest.raises(BadInput, match="is not a whole table of recorded runs .*move it away"):
            use()
