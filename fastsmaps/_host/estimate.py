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
    shared = live[1] - then[1]
    anonymous = live[0] - live[1] - (then[0] - then[1])
    if "Rss" in values:
        values["Rss"] = max(0, values["Rss"] + anonymous + shared)
    before = values.get("Pss")
    pss = 0
    for labels, part, change in (
        (_ANONYMOUS, then[0] - then[1], anonymous),
        (_SHARED, then[1], shared),
    ):
        for label in labels:
            if label not in values:
                continue
            old = values[label]
            if change > 0 and labels is _ANONYMOUS:
                new = old + change
            else:
                new = max(0, old + old * change // part) if part > 0 else max(0, old + change)
            values[label] = new
            if label.startswith("Pss_") and label != "Pss_Dirty":
                pss += new - old
    if before is not None:
        if "Pss_Anon" in values:
            values["Pss"] = max(0, before + pss)
        else:
            # Kernels before 5.3 do not split Pss. Growth is usually anonymous.
            values["Pss"] = _unsplit_pss(before, then, anonymous, shared)
    return Totals(values, totals.size, totals.source)


def _unsplit_pss(pss: int, then: tuple[int, int], anonymous: int, shared: int) -> int:
    ratio = pss / then[0] if then[0] > 0 else 1.0
    grown = anonymous if anonymous > 0 else anonymous * ratio
    return max(0, round(pss + grown + shared * ratio))
