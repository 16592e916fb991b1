"""Speed in a real browser, from a key press to the changed pixels: part of `make bench`. Not a
test, as timings of a shared machine."""

import statistics

import pytest

from .test_widgets import Shown, all_widgets

PRESSES = 60
WARM_UP = 2
# The picture has changed when the new one is decoded and a frame later on the screen.
TIMED = """async handle => {
    const cell = handle.closest(".jp-CodeCell")
    const picture = () => [...cell.querySelectorAll("img")].at(-1)
    const before = picture().src
    const began = await new Promise(pressed =>
        handle.addEventListener("keydown", event => pressed(event.timeStamp), {once: true}))
    const frame = () => new Promise(requestAnimationFrame)
    while (picture().src === before) await frame()
    await picture().decode()
    await frame()
    return performance.now() - began
}"""


@pytest.mark.parametrize(
    "name, label",
    [("schedule", "learning_rate"), ("memory", "max_seq_length"), ("runs", "learning_rate")],
)
def test_key_press_to_changed_pixels(
    page, run_notebook, tiny_model, few_tunes, name, label, capsys
):
    if not page.locator(".jp-CodeCell").count():
        run_notebook(all_widgets(tiny_model, few_tunes))
    handle = Shown(page, name).handle(label)
    handle.focus()
    milliseconds = []
    for press in range(WARM_UP + PRESSES):
        # There and back: a slider at its end would change nothing.
        key = "ArrowLeft" if press % 2 else "ArrowRight"
        milliseconds.append(time_of(page, handle, key))
    timed = milliseconds[WARM_UP:]
    median = statistics.median(timed)
    p95 = statistics.quantiles(timed, n=20)[-1]
    with capsys.disabled():
        print(
            f"\nkey press to changed pixels, {name}: median {median:.0f} ms (at most 120), "
            f"p95 {p95:.0f} ms (at most 200), n = {PRESSES}"
        )


def time_of(page, handle, key: str) -> float:
    """Milliseconds, by the page's own clock, which says them on its console: what is awaited from
    here would count the way of the answer too."""
    with page.expect_console_message(lambda message: message.text.startswith("took ")) as took:
        handle.evaluate(
            f"handle => {{ ({TIMED})(handle).then(time => console.log('took ' + time)) }}"
        )
        page.keyboard.press(key)
    return float(took.value.text.split()[1])
