"""Ctrl-C and SIGTERM as a wish that the training loop grants after the update at hand."""

import signal
import threading
from contextlib import contextmanager

from hpkit.finetune import processes


class Interrupted(KeyboardInterrupt):
    """The run was stopped by Ctrl-C or SIGTERM; its folder can be resumed. `signum` says by
    which.
    """

    def __init__(self, signum: int):
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


class StopSignal:
    """Turns Ctrl-C and SIGTERM into a wish that the training loop grants after the update at hand.

    Outside the loop, and at the second signal, it interrupts at once. Of several processes, all
    stop after the same update: `agreed` is the signal that one of them has had.
    """

    def __init__(self):
        self.training = False
        self.signum: int | None = None
        self.agreed: int | None = None

    def __call__(self, signum, frame):
        if not self.training or self.signum:
            raise Interrupted(signum)
        self.signum = signum

    def agree(self) -> None:
        """Ask every process, at the same point of the loop, whether a signal has come."""
        self.agreed = processes.largest(self.signum or 0) or None

    @contextmanager
    def installed(self):
        """Receive the signals within; outside the main thread, where Python delivers none, do
        nothing.
        """
        # A run in another thread is stopped by its owner.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def during_training(self):
        """Within, the first signal is a wish. Raises Interrupted at the end where one was
        granted.
        """
        self.training = True
        try:
            yield
            self.agree()  # a signal may have come after the last update
        finally:
            self.training = False
        if self.agreed:
            raise Interrupted(self.agreed)
