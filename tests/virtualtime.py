"""Asyncio in virtual time: what would take minutes takes none, and no test sleeps."""

import asyncio
import selectors


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, time jumps instead."""

    now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is moved by what it waits for."""

    def __init__(self):
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self):
        """Virtual seconds."""
        return self._jumping.now


def run(coroutine):
    """Run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
