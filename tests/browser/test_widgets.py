"""Every kind of widget under a real hand: what is seen and read follows the slider, by key and by
drag."""

import math
import re
import struct

import pytest
from playwright.sync_api import expect

from hpkit.formatting import shown_bytes, shown_rate
from hpkit.memory import predict_memory
from hpkit.model import read_config
from hpkit.recipe import NOTES

from .conftest import notebook_of, run_cell

UPDATES = 400  # of the notes' 4 x 32 = 128 examples each
TRUTH = 1.17
CURVE = (1.5, 1.3, 1.2)
ORDER = ("linear", "cosine", "constant")
#: The cells of the notebook by name, one widget each; MODEL and CORPUS are filled in.
CELLS = {
    "imports": """
from hpkit.recipe import NOTES
from hpkit.widgets import CadenceExplorer, FormatExplorer, MemoryExplorer, Prediction
from hpkit.widgets import QuantizationExplorer, RunExplorer, ScheduleExplorer""",
    "schedule": "ScheduleExplorer()",
    "memory": "MemoryExplorer('starter')",
    "format": "FormatExplorer(0.1)",
    "quantization": """
import torch
average = torch.randn(9_000, generator=torch.Generator().manual_seed(0)) ** 3
QuantizationExplorer({"weight": {"exp_avg": average, "exp_avg_sq": average**2}})""",
    "cadence": f"""
recipe = NOTES.replace(save_steps=20, eval_steps=20)
CadenceExplorer(recipe, examples={UPDATES * 128})""",
    "number": """
number = Prediction(
    'number', 'Which evaluation loss?', low=1, high=3, tolerance=0.05, relative=True)
number""",
    "curve": """
curve = Prediction(
    'curve', 'Which losses?', low=1, high=3, tolerance=0.1, along='update', steps=(0, 50, 100))
curve""",
    "order": """
order = Prediction('order', 'Which is best?', order=('linear', 'cosine', 'constant'))
order""",
    "answers": f"number.answer({TRUTH})\norder.answer({ORDER})",
    "record": """
from hpkit.recipe import STARTER
from hpkit.records import Grid, Point, Runs, record_point
recipe = STARTER.replace(
    per_device_train_batch_size=2, max_seq_length=32, warmup_steps=0.1, logging_steps=0.1,
    eval_steps=0.5)
settings = dict(learning_rate=1e-3, max_steps=60), dict(learning_rate=1e-1, max_steps=6000)
points = [Point(recipe.replace(**setting), "MODEL", "CORPUS") for setting in settings]
grid = Grid("rates", "Which learning rate?", tuple(points), (1, 2))
recorded = Runs([record_point(points[0].with_seed(seed)) for seed in grid.seeds])""",
    "runs": "runs = RunExplorer(grid, recorded)\nruns",
    "scratch": "1 + 1",
}
#: Those with a picture.
PICTURED = "schedule memory format quantization cadence number curve order runs".split()


class Shown:
    """A widget in the page: what a reader sees of it, and where a hand can take it."""

    def __init__(self, page, name: str):
        self.page = page
        self.cell = page.locator(".jp-CodeCell").nth(list(CELLS).index(name))
        self.picture = self.cell.locator("img:visible")

    def slider(self, label: str):
        return self.cell.locator(".widget-slider").filter(
            has=self.page.get_by_text(label, exact=True)
        )

    def handle(self, label: str):
        return self.slider(label).locator(".noUi-handle")

    def value(self, label: str) -> str:
        """What the page itself writes beside the slider, kernel or not."""
        return self.slider(label).locator(".widget-readout").inner_text().replace(",", "")

    def button(self, name: str):
        return self.cell.get_by_role("button", name=name)

    def words(self) -> str:
        return "\n".join(self.cell.locator(".widget-html").all_inner_texts()).replace("\xa0", " ")

    def now(self) -> tuple[str, str, str]:
        return self.picture.get_attribute("src"), self.picture.get_attribute("alt"), self.words()

    def expect_alt(self, words: str) -> None:
        expect(self.picture).to_have_attribute("alt", re.compile(re.escape(words)))


def all_widgets(model: str, corpus: str):
    cells = []
    for source in CELLS.values():
        cells.append(source.replace("MODEL", model).replace("CORPUS", corpus))
    return notebook_of(*cells)


@pytest.fixture(scope="module", autouse=True)
def notebook(run_notebook, tiny_model, few_tunes):
    run_notebook(all_widgets(tiny_model, few_tunes))


@pytest.fixture
def shown(page):
    return lambda name: Shown(page, name)


def run_code(page, code: str) -> str:
    """Run it in the last cell; returns what it shows."""
    return run_cell(page, page.locator(".jp-CodeCell").last, code)


def key(page, handle) -> None:
    handle.focus()
    page.keyboard.press("ArrowRight")


def key_again(page, handle) -> None:
    page.keyboard.press("ArrowRight")  # a redraw has not taken the focus away


def drag(page, handle) -> None:
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x = box["x"] + box["width"] / 2
    y = box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 120, y, steps=8)
    page.mouse.up()


def asked_for(value: str) -> str:
    return f"asked for: {shown_rate(float(value))};"


def needed(value: str) -> str:
    memory = predict_memory(read_config("starter"), NOTES, int(value), 512)
    return f"needed: {shown_bytes(memory.total)} ("


def of_runs(value: str) -> str:
    return f"this: {shown_rate(float(value.removesuffix(' (new)')))}:"


def blocks_of(value: str) -> str:
    return f"values, in {math.ceil(9000 / int(value))} blocks of {int(value):,};"


def checkpoints(value: str) -> str:
    """At every multiple, and at the end."""
    return f"checkpoint: {math.ceil(UPDATES / int(value))}, first at {value}, last at {UPDATES};"


def test_one_picture_of_each_is_seen(shown):
    for name in PICTURED:
        # The still one, which is for readers of the file, is hidden by the live one.
        expect(shown(name).picture).to_have_count(1)
        assert shown(name).picture.evaluate("image => image.naturalWidth") == 700
        assert shown(name).cell.locator("img").count() == 2


def test_the_tab_key_reaches_every_control(page):
    controls = page.locator(
        ".jp-OutputArea :is(.noUi-handle, :is(select, input, button):enabled):visible"
    )
    # In the order of PICTURED; FormatExplorer has a button a bit.
    assert controls.count() >= 6 + 6 + (3 + 16) + 6 + 7 + 2 + 4 + 4 + 7
    page.locator(".jp-CodeCell").first.focus()
    for _ in range(2 * controls.count()):  # readouts too take the focus
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement.dataset.reached = 'yes'")
    for control in controls.all():
        where = control.evaluate("one => one.parentElement.innerText")
        assert control.get_attribute("data-reached"), where


@pytest.mark.parametrize(
    "name, label, expected",
    [
        ("schedule", "learning_rate", asked_for),
        ("memory", "per_device_train_batch_size", needed),
        ("quantization", "block_size", blocks_of),
        ("cadence", "save_steps", checkpoints),
        ("number", "your guess", "Your guess: {};".format),
        ("runs", "learning_rate", of_runs),
        ("curve", "update 50", "{} at 50,".format),
    ],
)
def test_the_picture_and_the_words_follow_the_slider(page, shown, name, label, expected):
    widget = shown(name)
    for move in (key, key_again, drag):
        before = widget.now()
        value = widget.value(label)
        move(page, widget.handle(label))
        assert widget.value(label) != value
        widget.expect_alt(expected(widget.value(label)))
        assert_all_changed(before, widget.now())


def assert_all_changed(before: tuple[str, str, str], now: tuple[str, str, str]) -> None:
    """The picture, its alt text and the words."""
    for was, has_become in zip(before, now):
        assert was != has_become


def as_bf16(digits: str) -> float:
    """bf16 is the upper half of fp32, which Python itself knows."""
    return struct.unpack(">f", int(digits, 2).to_bytes(2, "big") + bytes(2))[0]


def test_the_bits_the_number_and_the_preset_say_the_same(page, shown):
    """A bit has no handle: it is taken by key, and by a click. The number follows, and what is
    typed and chosen is followed."""
    widget = shown("format")
    bits = widget.cell.locator("button.widget-toggle-button")
    text = widget.cell.get_by_label("value", exact=True)
    sign = bits.first
    last = bits.last
    for move in (lambda: last.press("Space"), lambda: page.keyboard.press("Space"), sign.click):
        before = widget.now()
        was = text.input_value()
        digits = "".join(bits.all_inner_texts())
        move()
        expect(text).not_to_have_value(was)
        now = "".join(bits.all_inner_texts())
        assert len(now) == 16
        assert sum(one != other for one, other in zip(now, digits)) == 1
        assert float(text.input_value()) == as_bf16(now)
        widget.expect_alt(f"{as_bf16(now):.9g} in 3 formats: ")
        assert_all_changed(before, widget.now())
    text.fill("257")
    text.press("Enter")
    widget.expect_alt("257 in 3 formats: fp32 257, exact; fp16 257, exact; bf16 256,")
    assert as_bf16("".join(bits.all_inner_texts())) == 256
    expect(widget.cell.get_by_label("preset")).to_have_value("257 = 256 + 1")
    widget.cell.get_by_label("preset").select_option("65520, the first that is inf in fp16")
    widget.expect_alt("65520 in 3 formats: fp32 65520, exact; fp16 inf,")
    expect(text).to_have_value("65520")


@pytest.mark.parametrize("width", [700, 1400])
def test_the_page_neither_jumps_nor_has_a_gap(page, shown, width):
    page.set_viewport_size({"width": width, "height": 1000})
    widget = shown("schedule")
    # JupyterLab follows the window's size with a delay, and that jump is its own.
    height = None
    while height != widget.picture.bounding_box()["height"]:
        height = widget.picture.bounding_box()["height"]
        page.wait_for_timeout(500)
    page.evaluate("heights = new Set()")
    widget.picture.evaluate("""picture => {
        const box = picture.closest(".widget-html")
        const look = () => { heights.add(box.offsetHeight); requestAnimationFrame(look) }
        look()
    }""")
    for _ in range(3):
        before = widget.picture.get_attribute("alt")
        key(page, widget.handle("learning_rate"))
        expect(widget.picture).not_to_have_attribute("alt", before)
    seen = page.evaluate("[...heights]")
    assert len(seen) == 1 and 0 <= seen[0] - widget.picture.bounding_box()["height"] < 10


def test_an_order_follows_its_menus(page, shown):
    widget = shown("order")
    before = widget.now()
    menu = widget.cell.get_by_label("place_1")
    menu.focus()
    # An arrow alone is JupyterLab's, which goes to the next cell.
    for pressed in ("Space", "ArrowDown", "Enter"):
        page.keyboard.press(pressed)
    widget.expect_alt("Your order: cosine, linear, constant;")
    chosen = [one.input_value() for one in widget.cell.locator("select").all()]
    assert chosen == ["cosine", "linear", "constant"]
    expect(menu).to_be_focused()
    menu.select_option("constant")
    widget.expect_alt("Your order: constant, linear, cosine;")
    assert_all_changed(before, widget.now())


def test_a_number_is_committed_and_scored(page, shown):
    widget = shown("number")
    value = float(widget.value("your guess"))
    assert "The answer is known" in widget.words()
    assert str(TRUTH) not in widget.words() + widget.picture.get_attribute("alt")
    widget.button("Commit").focus()
    page.keyboard.press("Enter")
    widget.expect_alt(f"Your guess: {value:g}; the answer: {TRUTH}.")
    off = 100 * abs(value - TRUTH) / TRUTH
    side = "high" if value > TRUTH else "low"
    within = "within the" if off <= 5 else "not within the"
    assert f"Your guess was {off:.3g} % too {side}: {within}" in widget.words()
    expect(widget.button("Commit")).to_be_disabled()
    before = widget.now()
    key(page, widget.handle("your guess"))
    drag(page, widget.handle("your guess"))
    assert run_code(page, "number.committed, number.guess") == f"(True, {value})"
    assert widget.now() == before and float(widget.value("your guess")) == value


def test_an_order_and_a_curve_are_committed_and_scored(page, shown):
    order = shown("order")
    curve = shown("curve")
    guess = [menu.input_value() for menu in order.cell.locator("select").all()]
    order.button("Commit").click()
    order.expect_alt(f"Your order: {', '.join(guess)}; the answer: {', '.join(ORDER)}.")
    right = sum(ORDER.index(guess[i]) < ORDER.index(guess[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert f"{right} of 3 pairs in the right order" in order.words()
    curve.button("Commit").click()
    expect(curve.cell.get_by_text("The answer is not known yet")).to_be_visible()
    off = 0.0
    for step, true in zip((0, 50, 100), CURVE):
        off += abs(float(curve.value(f"update {step}")) - true)
    score = run_code(page, f"curve.answer({CURVE}).error")
    assert float(score) == pytest.approx(off / 3)
    curve.expect_alt("the answer: 1.5 at 0, 1.3 at 50, 1.2 at 100.")


@pytest.mark.parametrize(
    "name, label, right", [("schedule", "lr_scheduler_kwargs", ""), ("format", "value", "0.1")]
)
def test_what_is_typed_wrong_is_said_and_not_run(shown, name, label, right):
    widget = shown(name)
    typed = "<img src=x onerror=alert(1)>"
    box = widget.cell.get_by_label(label, exact=True)
    pictures = widget.cell.locator("img").count()
    box.fill(typed)
    box.press("Enter")
    alert = widget.cell.get_by_role("alert")
    expect(alert).to_contain_text(typed)
    expect(widget.picture).to_have_attribute("alt", re.compile("^Out of date: "))
    assert widget.cell.locator("img").count() == pictures
    box.fill(right)
    box.press("Enter")
    expect(alert).to_have_count(0)
    expect(widget.picture).not_to_have_attribute("alt", re.compile("^Out of date: "))


def test_the_words_of_a_question_are_words(page):
    """Of a question, its unit and its order, as an author may write them: shown, and not run."""
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    question = f"Prediction('hostile', {hostile!r}, low=1, high=3, tolerance=1, unit={hostile!r})"
    run_code(page, question)
    cell = page.locator(".jp-CodeCell").last
    expect(cell.locator(".widget-html").filter(has_text=hostile).first).to_be_visible()
    assert cell.locator("img[src=x], .jp-OutputArea script").count() == 0
    run_code(page, "1 + 1")


def test_a_run_trained_now_is_drawn_over_the_band(page, shown):
    widget = shown("runs")
    widget.handle("learning_rate").focus()
    page.keyboard.press("Home")
    widget.expect_alt("1.0e-3: 3.")
    before = widget.now()
    widget.button("Train this point now").click()
    expect(widget.button("Stop")).to_be_enabled()
    expect(widget.cell.get_by_role("status")).to_contain_text("trained seed 31 in")
    losses = run_code(
        page, "print(*[f'{run.eval_loss_after:.5g}' for run in (*recorded, runs.live[0].run)])"
    )
    ends = losses.split()
    widget.expect_alt(f"trained now, seed 31: {ends[2]} at update 60")
    assert f"({' to '.join(sorted(ends[:2]))})" in widget.picture.get_attribute("alt")
    assert f"evaluation loss at the end {ends[2]}" in widget.words()
    assert_all_changed(before, widget.now())


def test_a_run_is_stopped_and_the_kernel_answers(page, shown):
    widget = shown("runs")
    widget.handle("max_steps").focus()
    page.keyboard.press("End")
    widget.expect_alt("this: 6000: not recorded")
    before = widget.picture.get_attribute("src")
    status = widget.cell.get_by_role("status")
    widget.button("Train this point now").click()
    expect(status).to_contain_text(re.compile("update [1-9]"))
    widget.button("Stop").click()
    expect(status).to_contain_text("stopped after update")
    assert 0 < int(re.search(r"\d+", status.inner_text())[0]) < 6000
    widget.expect_alt("trained now, seed 31 unfinished:")
    assert widget.picture.get_attribute("src") != before
    assert run_code(page, "runs.training, runs.live[0].run") == "(False, None)"
    test_the_picture_and_the_words_follow_the_slider(
        page, shown, "schedule", "learning_rate", asked_for
    )
