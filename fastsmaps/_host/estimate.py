"""What a process's figures are likely to be now, from its live Rss and those last read."""

from __future__ import annotations

from fastsmaps._model.totals import Totals

#: Scaled with the anonymous part of Rss; the others keep their last value.
_ANONYMOUS = ("Pss_Anon", "Anonymous", "Private_Dirty", "Pss_Dirty")
_SHARED = ("Pss_File", "Pss_Shmem", "Shared_Clean", "Private_Clean")


def estimate(totals: Totals, then: tuple[int, int], live: tuple[int, int]) -> Totals:
    """The totals scaled from `then` to `live`, statm's (resident, shared) in bytes.

    statm tells anonymous pages from those of files and shared memory, so each part is scaled by
    itself. What came since is taken for private where it is anonymous (only a fork shares such
    pages, and the parent's Rss does not grow by it), and for shared as before where it is not;
    what went is taken from what was there in its own proportion.
    """
    figures = totals.by_label
    shared = live[1] - then[1]
    anonymous = live[0] - live[1] - (then[0] - then[1])
    if "Rss" in figures:
        figures["Rss"] = max(0, figures["Rss"] + anonymous + shared)
    before = figures.get("Pss")
    pss = 0
    for labels, part, change in (
        (_ANONYMOUS, then[0] - then[1], anonymous),
        (_SHARED, then[1], shared),
    ):
        for label in labels:
            if label not in figures:
                continue
            old = figures[label]
            if change > 0 and labels is _ANONYMOUS:
                new = old + change
            else:
                new = max(0, old + old * change // part) if part > 0 else max(0, old + change)
            figures[label] = new
            if label.startswith("Pss_") and label != "Pss_Dirty":
                pss += new - old
    if before is not None:
        if "Pss_Anon" in figures:
            figures["Pss"] = max(0, before + pss)
        else:
            # Kernels before 5.3 do not split Pss; growth is anonymous as a rule.
            figures["Pss"] = _whole(before, then, anonymous, shared)
    return Totals(figures, totals.size, totals.source)


def _whole(pss: int, then: tuple[int, int], anonymous: int, shared: int) -> int:
    ratio = pss / then[0] if then[0] > 0 else 1.0
    grown = anonymous if anonymous > 0 else anonymous * ratio
    return max(0, round(pss + grown + shared * ratio))
