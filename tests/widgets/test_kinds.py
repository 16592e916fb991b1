"""Every kind of widget is shown in a notebook, and looked for there by the browser's tests."""

import importlib
import pkgutil

from browser.test_notebooks import FILES, HALLMARKS

import hpkit
from hpkit.widgets import Interactive


def test_every_kind_of_widget_is_known_here():
    for module in pkgutil.walk_packages(hpkit.__path__, "hpkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = set()
    for kind in Interactive.__subclasses__():
        if kind.__module__.startswith("hpkit."):  # other tests make kinds of their own
            kinds.add(kind.__name__)
    assert kinds == set(HALLMARKS)
    sources = "\n".join(file.read_text(encoding="utf-8") for file in FILES)
    unused = [kind for kind in kinds if f"{kind}(" not in sources]
    assert not unused, f"in no notebook: {unused}"
