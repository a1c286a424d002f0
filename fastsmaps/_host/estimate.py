"""Estimate a process's totals from its live Rss and the totals last read."""

from __future__ import annotations

from fastsmaps._model.totals import Totals

# Scaled with the anonymous part of Rss.
_ANONYMOUS = ("Pss_Anon", "Anonymous", "Private_Dirty", "Pss_Dirty")
# Scaled with the rest of Rss. Other fields keep their last value.
_SHARED = ("Pss_File", "Pss_Shmem", "Shared_Clean", "Private_Clean")


def estimate(totals: Totals, then: tuple[int, int], live: tuple[int, int]) -> Totals:
    """Scale the totals from `then` to `live`, statm's (resident, shared) in bytes.

    statm counts anonymous pages separately from those of files and shared memory, so each part is
    scaled by itself. New anonymous pages count as private: only a fork shares such pages, and it
    does not increase the parent's Rss. New pages of files and shared memory are shared in the
    proportion of the old ones. Pages that are gone reduce each field in proportion.
    """
    values = totals.by_label
    pss = estimate_pss(values, then, live)
    part, change = _anonymous(then, live)
    for label in _ANONYMOUS:
        if label in values:
            values[label] = _scaled_anonymous(values[label], part, change)
    shared = live[1] - then[1]
    for label in _SHARED:
        if label in values:
            values[label] = _scaled(values[label], then[1], shared)
    if "Rss" in values:
        values["Rss"] = max(0, values["Rss"] + change + shared)
    if "Pss" in values:
        values["Pss"] = pss
    return Totals(values, totals.size, totals.source)


def estimate_pss(values: dict[str, int], then: tuple[int, int], live: tuple[int, int]) -> int:
    """Return the Pss that estimate() gives, from values by label; 0 if there is none."""
    pss = values.get("Pss", 0)
    if then == live:
        return pss
    part, change = _anonymous(then, live)
    shared = live[1] - then[1]
    anonymous = values.get("Pss_Anon")
    if anonymous is None:
        # Kernels before 5.3 do not split Pss. Growth is usually anonymous.
        ratio = pss / then[0] if then[0] > 0 else 1.0
        return max(0, round(pss + (change if change > 0 else change * ratio) + shared * ratio))
    pss += _scaled_anonymous(anonymous, part, change) - anonymous
    for label in ("Pss_File", "Pss_Shmem"):
        old = values.get(label)
        if old is not None:
            pss += _scaled(old, then[1], shared) - old
    return max(0, pss)


def _anonymous(then: tuple[int, int], live: tuple[int, int]) -> tuple[int, int]:
    """Return the anonymous part of Rss, and its change."""
    part = then[0] - then[1]
    return part, live[0] - live[1] - part


def _scaled(old: int, part: int, change: int) -> int:
    return max(0, old + old * change // part) if part > 0 else max(0, old + change)


def _scaled_anonymous(old: int, part: int, change: int) -> int:
    return old + change if change > 0 else _scaled(old, part, change)
