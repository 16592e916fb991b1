"""JupyterLab as a learner sees it: a real server on loopback, in headless Chromium. A test module
shares one page.

After every test, whatever went wrong unseen fails it: an error on the page's console, an exception
in a widget's callback, an error that a widget shows, a kernel that died.
"""

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
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

import nbformat
import pytest
from playwright.sync_api import Error, TimeoutError, expect, sync_playwright

#: Of a test that failed, the page as it was then.
FAILED = Path(__file__).parent / "failed"
#: Where a server would read and write what is somebody's own: each gets a folder of the session.
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
    "MPLCONFIGDIR",
    "HPKIT_CACHE",
)
# No news popup; and every cell in the page, in sight or not.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
PATIENCE = 60_000  # ms, for what takes a second on an idle machine
#: The one address outside that a notebook shows: its badge, of which this stands in the place.
BADGE = "https://colab.research.google.com/assets/**"
BADGE_PICTURE = '<svg xmlns="http://www.w3.org/2000/svg" width="117" height="20"/>'
#: The name of a kernel in which every training ends after a few updates.
SHORT_KERNEL = "short"
# "" while cells run; then "done"; or at once what the dialog says with which JupyterLab reports a
# dead kernel. Its parts are drawn one after another: it is read once it has a title. A folded cell,
# the set-up, has an empty prompt: it would count as begun before anything has.
HOW_FAR = """() => {
    const dialog = document.querySelector(".jp-Dialog")
    if (dialog) {
        const title = dialog.querySelector(".jp-Dialog-header")
        return title?.innerText ? dialog.innerText : ""
    }
    const cells = document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")
    const prompts = [...cells].map(prompt => prompt.innerText).filter(text => text.includes("["))
    const begun = prompts.length && !prompts[0].includes("[ ]")
    const running = prompts.some(prompt => prompt.includes("*"))
    return begun && !running ? "done" : ""
}"""


class Lab(NamedTuple):
    """A running JupyterLab: where it answers, its folder of notebooks, its settings and its log."""

    url: str
    token: str
    folder: Path
    settings: Path
    log: Path

    def set(self, plugin: str, **settings) -> None:
        """A setting of the next page that is opened."""
        file = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))

    def end_kernels(self) -> None:
        """Of every notebook that is open: what they hold in memory is given back."""
        access = {"Authorization": f"token {self.token}"}
        kernels = f"{self.url}/api/kernels"
        for kernel in json.load(urlopen(Request(kernels, headers=access))):
            end = Request(f"{kernels}/{kernel['id']}", headers=access, method="DELETE")
            urlopen(end).close()

    def wait_for(self, server: subprocess.Popen) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 180
        while server.poll() is None and time.monotonic() < deadline:
            try:
                urlopen(f"{self.url}/api").close()
                return
            except URLError:
                time.sleep(0.25)
        words = self.log.read_text()[-2000:]
        pytest.fail(f"JupyterLab did not start in three minutes:\n{words}", pytrace=False)


def add_short_kernel(kernels: Path, ipython: Path) -> None:
    """To a reader of the page SHORT_KERNEL is the usual one; it differs by its IPYTHONDIR alone."""
    specification = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "env": {"IPYTHONDIR": str(ipython)},
    }
    file = kernels / SHORT_KERNEL / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(specification))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start_server(lab: Lab, own: dict[str, Path]) -> subprocess.Popen:
    """Its process; `own` are the folders that it gets instead of the user's."""
    port = lab.url.rpartition(":")[2]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"]
    # Were the port taken meanwhile, it would choose another without a word to us.
    command += [f"--port={port}", "--ServerApp.port_retries=0"]
    command.append(f"--ServerApp.root_dir={lab.folder}")
    if os.geteuid() == 0:
        command.append("--allow-root")
    environment = os.environ | {name: str(folder) for name, folder in own.items()}
    environment["JUPYTER_TOKEN"] = lab.token
    with lab.log.open("w") as out:
        return subprocess.Popen(command, env=environment, stdout=out, stderr=out)


@pytest.fixture(scope="session")
def lab(tmp_path_factory, short_ipython):
    root = tmp_path_factory.mktemp("lab")
    own = {name: root / name.lower() for name in FOLDERS}
    for folder in (*own.values(), root / "notebooks"):
        folder.mkdir()
    lab = Lab(
        url=f"http://127.0.0.1:{free_port()}",
        token=secrets.token_hex(16),
        folder=root / "notebooks",
        settings=own["JUPYTERLAB_SETTINGS_DIR"],
        log=root / "server.log",
    )
    for plugin, settings in SETTINGS.items():
        lab.set(plugin, **settings)
    add_short_kernel(own["JUPYTER_DATA_DIR"] / "kernels", short_ipython)
    server = start_server(lab, own)
    try:
        lab.wait_for(server)
        yield lab
    finally:
        server.terminate()  # it takes its kernels along
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
    if lab.token in lab.log.read_text():  # an assert would print it
        pytest.fail(
            "the server's log has the token, with which anybody could run code", pytrace=False
        )


# Not of the session: while it is there, no other test can have an event loop.
@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.fail(
            "no command `chromium`, in which these tests run: `make test` installs it; "
            "by hand, apt-get install chromium",
            pytrace=False,
        )
    # Nothing but the loopback is reached, and the browser asks nothing of its maker.
    options = [
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--disable-gpu",
        "--disable-quic",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module", autouse=True)
def page(browser):
    """The page, in `page.errors` what its console or a callback in its kernel says is wrong."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    page.route(BADGE, lambda route: route.fulfill(body=BADGE_PICTURE, content_type="image/svg+xml"))
    page.errors = []

    def hear_console(message):
        if message.type == "error":
            page.errors.append(f"{message.text} ({message.location['url']})")

    def hear_kernel(frame):
        page.errors.extend(failed_callback(frame))

    page.on("console", hear_console)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("websocket", lambda socket: socket.on("framereceived", hear_kernel))
    yield page
    page.close()


def failed_callback(frame: bytes | str) -> list[str]:
    """The traceback that a message from the kernel brings, where it is of no cell: JupyterLab shows
    it nowhere.

    Such a message, of the protocol v1.kernel.websocket.jupyter.org, begins with the places of its
    parts, each in eight bytes.
    """
    if isinstance(frame, str):
        return []
    count = frame[0]
    places = [int.from_bytes(frame[at : at + 8], "little") for at in range(8, 8 * (1 + count), 8)]
    # After these five come the message's buffers.
    _, header, parent, _, content = (frame[start:end] for start, end in pairwise(places[:6]))
    if json.loads(parent).get("msg_type") == "execute_request":
        return []
    if json.loads(header)["msg_type"] not in ("stream", "error"):
        return []
    content = json.loads(content)
    words = content.get("text") or "\n".join(["Traceback", *content.get("traceback", ())])
    if "Traceback" not in words:
        return []
    colours = r"\x1b\[[\d;]*m"
    lines = re.sub(colours, "", words).strip().splitlines()
    return ["\n".join(["in a callback:", *lines[-8:]])]


def check_all_is_well(page) -> None:
    """Raises AssertionError with what went wrong since the last check, where no cell and no test
    has said so."""
    page.wait_for_timeout(0)  # hear what has come in
    errors = list(page.errors)
    page.errors.clear()
    for words in page.locator("[role=alert]:visible").all_inner_texts():
        errors.append(f"a widget says: {words}")
    for words in page.locator(".jp-Dialog:visible").all_inner_texts():
        errors.append(f"JupyterLab says: {words}")
    if errors:
        raise AssertionError("\n".join(errors))


@pytest.fixture(autouse=True)
def all_is_well(page):
    yield
    check_all_is_well(page)


def notebook_of(*cells: str) -> nbformat.NotebookNode:
    """A notebook of these sources."""
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["kernelspec"] = kernel
    return notebook


@pytest.fixture(scope="module")
def open_notebook(lab, page):
    """Open a notebook (a node of nbformat) in the page, in place of the one before; returns its
    file."""

    def open_it(notebook, name: str = "test.ipynb") -> Path:
        page.goto("about:blank")  # else the page would ask what became of its kernel
        lab.end_kernels()
        file = lab.folder / name
        nbformat.write(notebook, file)
        page.goto(f"{lab.url}/lab/tree/{name}?token={lab.token}&reset")
        # Before the status bar says so, a click on Run may run nothing.
        page.get_by_text(re.compile(r"Python 3 \(ipykernel\) \| Idle")).wait_for(timeout=PATIENCE)
        return file

    yield open_it
    page.goto("about:blank")
    lab.end_kernels()


@pytest.fixture(scope="module")
def run_notebook(open_notebook, page):
    """Open a notebook, as a learner does, and run all; no cell may end in an error. Returns the
    notebook as it is saved then.

    A kernel that dies is noticed when JupyterLab says so, a few seconds later.
    """

    def run(notebook, name: str = "test.ipynb", seconds: float = 600):
        for cell in notebook.cells:  # a count that is stored looks like one of this run
            if cell.cell_type == "code":
                cell.execution_count = None
        file = open_notebook(notebook, name)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        wait_for_the_last_cell(page, name, seconds)
        # In the page an error looks like any text on stderr; the file knows.
        page.keyboard.press("Control+s")
        expect(page.locator(".jp-mod-dirty")).to_have_count(0)
        ran = nbformat.read(file, as_version=4)
        check_that_all_ran(ran)
        return ran

    return run


def wait_for_the_last_cell(page, name: str, seconds: float) -> None:
    try:
        waited = page.wait_for_function(HOW_FAR, timeout=1000 * seconds, polling=200)
        how_far = waited.json_value()
    except TimeoutError:
        cell = page.locator(".jp-CodeCell").filter(has_text="[*]:").first
        raise AssertionError(
            f"after {seconds} s {name} still runs: {cell.inner_text()[:200]}"
        ) from None
    if how_far != "done":
        raise AssertionError(f"while {name} ran, JupyterLab said: {how_far}")


def check_that_all_ran(notebook) -> None:
    """Every code cell once, in their order, and none with an error."""
    counts = []
    errors = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        counts.append(cell.execution_count)
        for output in cell.outputs:
            if output.output_type == "error":
                errors.append(f"{output['ename']}: {output['evalue']}")
    assert errors == []
    assert counts == list(range(1, len(counts) + 1))


def run_cell(page, cell, code: str) -> str:
    """Put the code into this cell of the page, run that, and return what it shows, of several
    outputs the last."""
    before = cell.locator(".jp-InputPrompt").inner_text()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")
    # Done when the prompt has a number again, `[7]:`, and another than before.
    another = re.compile(rf"\[(?!{before[1:-2]}\])\d+\]:")
    expect(cell.locator(".jp-InputPrompt")).to_have_text(another)
    return cell.locator(".jp-OutputArea-output").last.inner_text()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and "page" in item.funcargs:
        FAILED.mkdir(exist_ok=True)
        with suppress(Error):  # the page may be what is broken
            item.funcargs["page"].screenshot(path=FAILED / f"{item.name}.png")
    return report
