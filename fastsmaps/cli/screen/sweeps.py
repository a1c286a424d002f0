"""The sweeps of a Sampler beside a screen, and what the whole command takes."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import fastsmaps
    from fastsmaps._model.processes import Scan

# The part of the budget that drawing may take: with thousands of processes it would take more.
_MAX_DRAWING_SHARE = 3 / 4
_BUDGETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class Sweeps:
    """Sweep every `interval` seconds, `iterations` times (None: until the end).

    The first sweep begins at once, in a thread, while Textual is imported. All CPU time of the
    command is charged to the Sampler's budget, except that of reads that the user asked for.
    """

    def __init__(
        self,
        sampler: fastsmaps.Sampler,
        sweep: Callable[[], Scan],
        *,
        interval: float,
        iterations: int | None,
    ) -> None:
        self._sampler, self._sweep = sampler, sweep
        self.interval, self._left = interval, iterations
        self.procfs = sampler.procfs
        self.paused = False
        self._asked = 0.0  # CPU time of reads that the user asked for
        # Wall and CPU time after the first sweep, which is not charged.
        self._began: tuple[float, float] | None = None
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "sweeps")
        self._first = None if iterations == 0 else self._thread.submit(sweep)

    def close(self) -> None:
        """Wait until no sweep runs."""
        self._thread.shutdown()

    async def scans(self) -> AsyncIterator[Scan]:
        """Yield a scan for each sweep; the time until the next request is that of drawing."""
        while self._left is None or self._left > 0:
            before = self._cpu()
            # In a thread, so that keys are answered during a sweep.
            running = self._first or self._thread.submit(self._sweep)
            self._first = None
            scan = await asyncio.wrap_future(running)
            self._began = self._began or (time.monotonic(), self._cpu())
            drawing = time.process_time()
            yield scan
            drawing = time.process_time() - drawing
            if self._left is not None:
                self._left -= 1
            if self._left != 0:
                # What is drawn later, by Textual, takes about as much again.
                await self._pause(2 * drawing / (self._sampler.budget * _MAX_DRAWING_SHARE))
                self._sampler.charge(max(0.0, self._cpu() - before - scan.cost.cpu))

    async def _pause(self, least: float) -> None:
        await asyncio.sleep(max(self.interval, least))
        while self.paused:
            self._wake.clear()
            await self._wake.wait()

    def _cpu(self) -> float:
        return time.process_time() - self._asked

    def asked(self, seconds: float) -> None:
        """Count CPU time of a read that the user asked for: it is not charged."""
        self._asked += seconds

    def pause(self, paused: bool) -> None:
        """Stop or continue."""
        self.paused = paused
        self._wake.set()

    def change_budget(self, step: int) -> None:
        """Take the next larger budget, or the next smaller one."""
        now = self._sampler.budget
        others = [b for b in _BUDGETS if (b > now * 1.001 if step > 0 else b < now / 1.001)]
        if others:
            self._sampler.budget = others[0] if step > 0 else others[-1]
            self._began = time.monotonic(), self._cpu()

    def own_share(self) -> str:
        """Return what the whole command takes of one core, once it is known, and its budget."""
        text = f"budget {100 * self._sampler.budget:g}%"
        if self._began is None or time.monotonic() - self._began[0] < 1:
            return text
        wall, cpu = self._began
        return f"top takes {(self._cpu() - cpu) / (time.monotonic() - wall):.1%} of a core, {text}"
