"""A training that runs beside the widgets: in a thread, told about, and stopped from outside."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpkit.finetune.run import Run
from hpkit.records.comparison import number_or_infinity
from hpkit.records.grids import Point
from hpkit.records.recording import record_point


class Stopped(Exception):
    """Ends a training from within, as its owner wished."""


@dataclass
class LiveRun:
    """A run trained from a widget, in a thread: the kernel stays free for a stop button.

    `point` has the seed to train with. `done` of `updates` are through, `seconds_left` is None
    until that can be said; `history` has what was logged so far. When it has finished, `run` is the
    whole run; otherwise `error` says what ended it, after `stop` a Stopped.
    """

    point: Point
    done: int = 0
    updates: int = 0
    seconds_left: float | None = None
    history: list[dict] = field(default_factory=list)
    run: Run | None = None
    error: Exception | None = None
    _stop: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    _thread: threading.Thread | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """What the run is called: its seed, and whether it is still running."""
        seed = f"seed {self.point.recipe.seed}"
        if self.run:
            return seed
        if self.error:
            return f"{seed} unfinished"
        return f"{seed} running"

    @property
    def stopped(self) -> bool:
        """Was it ended by `stop`, before its last update?"""
        return isinstance(self.error, Stopped)

    @property
    def outcome(self) -> str:
        """What became of it, once it is over."""
        if self.run:
            return f"trained {self.name} in {self.run.train_seconds:.0f} s"
        if self.stopped:
            return (
                f"stopped after update {self.done:,}: what was measured stays drawn, "
                "and Train starts anew"
            )
        return "the training failed: the reason stands above the picture"

    def verdict(self, recorded: list[float]) -> str:
        """Where it ended beside the recorded seeds, whose losses at the end are given."""
        if not self.run:
            return f"Trained now: {self.name}, at update {self.done:,}"
        end = number_or_infinity(self.run.eval_loss_after)
        words = f"Trained now with {self.name}: evaluation loss at the end {end:.5g}"
        if not recorded:
            return f"{words}; no recorded seed to hold it against"
        lowest = min(recorded)
        highest = max(recorded)
        side = "within"
        if end < lowest:
            side = "below"
        elif end > highest:
            side = "above"
        return f"{words}, {side} the recorded seeds ({lowest:.5g} to {highest:.5g})"

    def start(self, progressed: Callable, ended: Callable) -> None:
        """Train now, in a thread of its own.

        It calls `progressed(self, logged)` after every update, with whether something was logged,
        and at last `ended(self)`.
        """
        # A daemon: a kernel that is shut down does not wait for the training.
        self._thread = threading.Thread(target=self._train, args=(progressed, ended), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the training after the update at hand; a finished one stays as it is."""
        self._stop.set()

    def wait(self) -> Run | None:
        """Wait for the end; returns the run, None where it was stopped. Raises what it raised."""
        self._thread.join()
        if self.error and not self.stopped:
            raise self.error
        return self.run

    def _train(self, progressed: Callable, ended: Callable) -> None:
        began = None

        def watch(update: int, updates: int, logged: dict) -> None:
            nonlocal began
            # What a watch raises ends the training and comes through to `_train` below.
            if self._stop.is_set():
                raise Stopped
            # The clock starts with the first call: loading and measuring before it take long and
            # say nothing about the time that is left.
            if began is None:
                began = time.monotonic()
            if update:
                self.seconds_left = (time.monotonic() - began) / update * (updates - update)
            self.done = update
            self.updates = updates
            if logged:
                self.history.append({"step": update} | logged)
            progressed(self, bool(logged))

        try:
            self.run = record_point(self.point, watch)
        except Exception as error:  # kept for whoever waits: nobody sees what a thread raises
            self.error = error
        ended(self)
