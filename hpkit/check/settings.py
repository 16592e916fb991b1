"""Which rules count: `--select`, `--ignore`, `--strict`, and `[tool.hpkit]` of pyproject.toml."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hpkit.errors import BadInput, did_you_mean
from hpkit.files import read_toml
from hpkit.preflight.rules import ALL_RULES

_KEYS = ("select", "ignore", "strict")


@dataclass(frozen=True)
class Settings:
    """`select`: the rules that count, all where it is empty. `ignore`: those that do not.
    `strict`: a warning is as bad as an error.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    strict: bool = False


def settings_of(
    select: Iterable[str] | None, ignore: Iterable[str] | None, strict: bool
) -> Settings:
    """What the command line says, and else the nearest pyproject.toml. Raises BadInput."""
    found = _from_pyproject(Path.cwd())
    if select is not None:
        found["select"] = list(select)
    if ignore is not None:
        found["ignore"] = list(ignore)
    for key in ("select", "ignore"):
        _require_rules(key, found.get(key, []))
    return Settings(
        tuple(found.get("select", ())),
        tuple(found.get("ignore", ())),
        strict or found.get("strict", False),
    )


def _from_pyproject(folder: Path) -> dict:
    for parent in (folder, *folder.parents):
        file = parent / "pyproject.toml"
        if file.is_file():
            tools = read_toml(file, "settings").get("tool")
            table = tools.get("hpkit", {}) if isinstance(tools, dict) else {}
            if not isinstance(table, dict):
                raise BadInput(f"{file}: expected [tool.hpkit] to be a table, got {table!r}")
            if not isinstance(table.get("strict", False), bool):
                raise BadInput(f"{file}: expected strict = true or false")
            for key in table:
                if key not in _KEYS:
                    raise BadInput(
                        f"{file}: [tool.hpkit] takes {', '.join(_KEYS)}, got {key}"
                        f"{did_you_mean(key, _KEYS)}"
                    )
            return dict(table)
    return {}


def _require_rules(key: str, names: object) -> None:
    known = [rule.name for rule in ALL_RULES]
    if not isinstance(names, list):
        raise BadInput(f"{key}: expected a list of rules, got {names!r}")
    for name in names:
        if name not in known:
            raise BadInput(
                f"{key}: there is no rule {name!r}{did_you_mean(str(name), known)}; "
                "`hpkit explain --rules` lists all"
            )
