"""StatmTurns: whose statm a Sampler samples at a sweep."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    # Samples these slots for so many seconds, keeping descriptors up to a part of those allowed;
    # returns how many it has sampled.
    Sample = Callable[[Sequence[int], float, float], int]

# The parts of a sweep's credit for statm: of processes that moved within so many seconds; of the
# others, the least and the most, depending on how many of them have moved; and at least, if the
# host's memory moved otherwise than the processes that were sampled.
_LIVELY_SHARE = 1 / 4
_LIVELY_SECONDS = 30.0
_LEAST_SHARE = 1 / 32
_MOST_SHARE = 1 / 4
_DRIFT_SHARE = 1 / 8
# Seconds that reading a statm takes at least, and at most if its descriptor is kept.
_MIN_COST = 5e-7
_MAX_COST = 2e-6


class _Turn:
    """Slots that are sampled in turn, and the place of the next one."""

    def __init__(self) -> None:
        self.slots = array("I")
        self.at = 0

    def sample(self, sample: Sample, seconds: float, keep: float) -> bool:
        """Sample the next slots, each at most once; return whether the end is reached."""
        most = int(seconds / _MIN_COST) + 1
        self.at += sample(self.slots[self.at : self.at + most], seconds, keep)
        if self.at < len(self.slots):
            return False
        self.at = 0
        return True


class StatmTurns:
    """The slots of a StatmTable that moved lately, and the others in turn.

    ``lively`` has the slots that moved lately, and when. Of the others, those of large processes
    are few and have most of the memory: they get half of the time.
    """

    def __init__(self) -> None:
        self.lively: OrderedDict[int, float] = OrderedDict()
        self.large = _Turn()
        self.rest = _Turn()
        self._share = _MOST_SHARE  # of the credit, for the others

    def begin(self, sizes: Iterable[tuple[int, int]], total: int) -> None:
        """Begin a new round, of slots and the Pss of their processes, which is `total` in all."""
        found = list(sizes)
        average = total / max(1, len(found))
        self.large, self.rest = _Turn(), _Turn()
        for slot, pss in found:
            (self.large if pss > average else self.rest).slots.append(slot)

    def sample(self, sample: Sample, credit: float, drifted: bool) -> bool:
        """Sample what the credit allows; return whether a round has ended.

        `drifted` says that memory moved elsewhere than in the processes that were sampled.
        """
        now = time.monotonic()
        for slot in [slot for slot, at in self.lively.items() if now - at > _LIVELY_SECONDS]:
            del self.lively[slot]
        lively = list(self.lively)
        for slot in lively[: sample(lively, credit * _LIVELY_SHARE, 1.0)]:
            if slot in self.lively:
                self.lively.move_to_end(slot)
        share = self._share
        if drifted:
            # All of them, if that is cheap.
            count = len(self.large.slots) + len(self.rest.slots)
            is_cheap = count * _MAX_COST <= credit * _MOST_SHARE
            share = _MOST_SHARE if is_cheap else max(share, _DRIFT_SHARE)
        before = len(self.lively)
        self.large.sample(sample, credit * share / 2, 1.0)
        # Half of the descriptors stay free for the others.
        ended = self.rest.sample(sample, credit * share / 2, 1 / 2)
        share *= 2 if len(self.lively) > before else 1 / 2
        self._share = min(max(share, _LEAST_SHARE), _MOST_SHARE)
        return ended
