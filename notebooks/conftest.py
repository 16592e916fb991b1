"""The layer of the notebooks ends with a table: how long each computed, its kernel's start
included."""

from collections import Counter


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
