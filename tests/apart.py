"""Tests that are left out under what fuzz/ runs them; and why."""

from __future__ import annotations

# Under ASan or valgrind, where a process has other memory, and its children may have.
UNWATCHED = {
    "test_leaks.py::test_nothing_is_left_behind": "what was freed is kept, so that its use is seen",
    "test_live_resources.py::test_reading_again_and_again_takes_no_more": "what was freed is kept",
    "test_packaging.py::test_the_man_page_renders": "groff is looked into, too, and found at fault",
}
