"""JupyterLab as a learner sees it: a real server on loopback, in headless Chromium. A test module shares one page."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from playwright.sync_api import Error, expect, sync_playwright

#: Of a test that failed, the page as it was then.
FAILED = Path(__file__).parent / "failed"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
FOLDERS += ("IPYTHONDIR", "MPLCONFIGDIR", "HPKIT_CACHE")
# No news popup; and every cell in the page, in sight or not.
SETTINGS = {"apputils-extension/notification": {"fetchNews": "false"}, "notebook-extension/tracker": {"windowingMode": "none"}}
PATIENCE = 60_000  # ms, for what takes a second on an idle machine


class Lab(NamedTuple):
    """A running JupyterLab: its folder of notebooks, and how to change a setting before the next page is opened."""

    url: str
    token: str
    folder: Path
    settings: Path

    def set(self, plugin: str, **settings) -> None:
        file = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab")
    own = {name: root / name.lower() for name in (*FOLDERS, "notebooks")}
    for folder in own.values():
        folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), own.pop("notebooks"), own["JUPYTERLAB_SETTINGS_DIR"])
    for plugin, settings in SETTINGS.items():
        lab.set(plugin, **settings)
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={lab.folder}"]
    options += ["--allow-root"] * (os.geteuid() == 0)
    log = root / "server.log"
    environment = os.environ | {name: str(folder) for name, folder in own.items()} | {"JUPYTER_TOKEN": lab.token}
    with log.open("w") as out:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=environment, stdout=out, stderr=out)
    try:
        for _ in range(720):
            if server.poll() is None:
                try:
                    urlopen(f"{lab.url}/api").close()
                    break
                except URLError:
                    time.sleep(0.25)
        else:
            pytest.fail(f"JupyterLab did not start in three minutes:\n{log.read_text()[-2000:]}", pytrace=False)
        yield lab
    finally:
        server.terminate()  # it takes its kernels along
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")  # not of the session: while it is there, no other test can have an event loop
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.fail("no command `chromium`, in which these tests run: `make test` installs it; by hand, apt-get install chromium", False)
    # Nothing but the loopback is reached, and the browser asks nothing of its maker.
    options = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-gpu", "--disable-quic"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module", autouse=True)
def page(browser):
    """The page, in `page.errors` what its console has said is wrong."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.errors = []
    page.on("console", lambda message: message.type == "error" and page.errors.append(f"{message.text} ({message.location['url']})"))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()


@pytest.fixture(autouse=True)
def no_script_errors(page):
    yield
    errors, page.errors[:] = page.errors[:], []
    assert not errors


@pytest.fixture(scope="module")
def run_notebook(lab, page):
    """Open a notebook of `cells` (sources) in the page, as a learner does, and run all; no cell may end in an error."""

    def run(*cells: str):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        file = lab.folder / "test.ipynb"
        nbformat.write(notebook, file)
        page.goto(f"{lab.url}/lab/tree/test.ipynb?token={lab.token}&reset")
        # Before the status bar says so, a click on Run may run nothing.
        page.get_by_text(re.compile(r"Python 3 \(ipykernel\) \| Idle")).wait_for(timeout=PATIENCE)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
        expect(prompts.first).not_to_have_text("[ ]:")
        expect(prompts.filter(has_text="[*]")).to_have_count(0, timeout=300_000)
        # In the page an error looks like any text on stderr; the file knows.
        page.keyboard.press("Control+s")
        expect(page.locator(".jp-mod-dirty")).to_have_count(0)
        ran = nbformat.read(file, as_version=4).cells
        assert [output["evalue"] for cell in ran for output in cell.outputs if output.output_type == "error"] == []
        assert all(cell.execution_count for cell in ran)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and "page" in item.funcargs:
        FAILED.mkdir(exist_ok=True)
        with suppress(Error):  # the page may be what is broken
            item.funcargs["page"].screenshot(path=FAILED / f"{item.name}.png")
    return report
