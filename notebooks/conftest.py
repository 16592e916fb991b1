"""The layer of the notebooks: two kernels side by side that cannot collide, and in the end a table
of how long each notebook computed, its kernel's start included."""

import tempfile
from collections import Counter
from pathlib import Path

import nbval.kernel
from jupyter_client.manager import KernelManager


class KernelOfFiles(KernelManager):
    """A kernel that talks through socket files in a folder of its own, and not through TCP ports.

    For ports jupyter_client finds free ones and lets go of them; its kernel binds them a second
    later. Of two kernels that start at once, one may find a port taken by then, and dies.
    """

    def __init__(self, **options):
        self._folder = tempfile.TemporaryDirectory(prefix="kernel-")
        file = Path(self._folder.name) / "kernel.json"
        super().__init__(transport="ipc", connection_file=str(file), **options)


def pytest_configure():
    nbval.kernel.KernelManager = KernelOfFiles


def pytest_terminal_summary(terminalreporter):
    seconds = Counter()
    cells = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            file = getattr(report, "nodeid", "").partition("::")[0]
            if file.endswith(".ipynb"):
                # Of every report: it is while the first cell is set up that the kernel starts.
                seconds[file] += report.duration
                cells[file] += report.when == "call"
    terminalreporter.section("notebooks, seconds on this machine")
    for file in sorted(seconds):
        terminalreporter.line(f"{seconds[file]:6.0f} s  {cells[file]:3} cells  {file}")
