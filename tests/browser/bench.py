"""Speed in a real browser, from a key press to the changed pixels: part of `make bench`. Not a test, as timings of a shared machine."""

import statistics

import pytest

from .test_widgets import Shown, all_widgets

PRESSES = 60
# The picture has changed when the new one is decoded and a frame later on the screen.
TIMED = """async handle => {
    const cell = handle.closest(".jp-CodeCell")
    const picture = () => [...cell.querySelectorAll("img")].at(-1)
    const before = picture().src
    const began = await new Promise(pressed => handle.addEventListener("keydown", event => pressed(event.timeStamp), {once: true}))
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
    for press in range(PRESSES + 2):
        with page.expect_console_message(lambda message: message.text.startswith("took ")) as took:
            handle.evaluate(
                f"handle => {{ ({TIMED})(handle).then(time => console.log('took ' + time)) }}"
            )
            page.keyboard.press("ArrowLeft" if press % 2 else "ArrowRight")
        milliseconds.append(float(took.value.text.split()[1]))
    median, p95 = (
        statistics.median(milliseconds[2:]),
        statistics.quantiles(milliseconds[2:], n=20)[-1],
    )
    with capsys.disabled():
        print(
            f"\nkey press to changed pixels, {name}: median {median:.0f} ms (at most 120), p95 {p95:.0f} ms (at most 200), n = {PRESSES}"
        )
