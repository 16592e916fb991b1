"""How the kit writes numbers: one way each for counts, bytes, rates and hyperparameters."""

import json


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 update`, `2,000 updates`. The plural is the noun with an s."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}s"


def shown(value) -> str:
    """A hyperparameter's value as the command line and TOML write it: `none`, `true`, `0.001`."""
    if value is None:
        return "none"
    # As JSON: Python would write True, and single quotation marks.
    if isinstance(value, bool | dict):
        return json.dumps(value)
    return str(value)


def shown_bytes(count: float) -> str:
    """A number of bytes as people write it: `23.4 GB`, a GB being 10^9."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        # Three significant digits; a decimal would be a fourth from 100 on.
        if count >= 100 * size:
            return f"{count / size:,.0f} {unit}"
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def shown_seconds(seconds: float) -> str:
    """A length of time as people say it: `0.4 s`, `52 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


def shown_rate(rate: float) -> str:
    """A learning rate as people write it: `3.0e-7`."""
    # Python fills an exponent up to two digits.
    return f"{rate:.1e}".replace("e-0", "e-")


def shown_number(value: float) -> str:
    """A number as a slider shows it: `2,000`, `0.0001`."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.6g}"


def exact_number(value: float) -> str:
    """Nine significant digits, which tell any two numbers of fp32 or a smaller format apart."""
    return f"{value:.9g}"
