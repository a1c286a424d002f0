"""Tests that are left out, or run by themselves, under what fuzz/ runs them; and why."""

from __future__ import annotations

# Under ASan or valgrind, where a process has other memory, and its children may have.
UNWATCHED = {
    "test_leaks.py::test_nothing_is_left_behind": "what was freed is kept, so that its use is seen",
    "test_live_resources.py::test_reading_again_and_again_takes_no_more": "what was freed is kept",
    "test_live_resources.py::test_small_readings_leave_nothing": "what was freed is kept",
    "test_packaging.py::test_the_man_page_renders": "groff is looked into, too, and found at fault",
    "test_plot.py::test_samples": "this process is GiB large, and its axis says so",
    "test_security_processes.py::test_no_memory_in_the_midst": "ASan ends who has none",
    "test_security_processes.py::test_the_command_without_memory": "so has ASan itself none",
}

# By fuzz/threads in one thread: descriptors, limits, signals and files are there once for all.
ALONE = {
    "test_errors.py::test_a_pickle_keeps_all_of_it": "adds notes to errors that the module keeps",
    "test_processes.py::test_without_a_rollup_smaps_is_summed": "removes files that all read",
    "test_processes.py::test_a_damaged_capture_is_named": "cuts off files that all read",
    "test_processes.py::test_a_time_beyond_all_numbers": "writes a file that all read",
    "test_processes.py::test_other_failures_keep_their_errno": "limits the process's descriptors",
    "test_processes.py::test_a_dropped_process_closes_its_descriptors": "counts descriptors",
    "test_processes.py::test_signals_are_heard_and_threads_share": "waits for a signal",
    "test_descriptors.py": "forks, and limits descriptors there",
    "test_pidfd.py": "forks, and counts descriptors",
    "test_sampler.py::test_a_limit_that_changes": "forks",
    "test_sampler.py::test_a_quarter_of_what_is_free": "forks",
    "test_sampler.py::test_as_another_user": "forks",
    "test_sampler.py::test_who_comes_and_goes": "counts descriptors",
    "test_scan.py::test_as_another_user": "forks",
    "test_scan.py::test_every_outcome": "has a dialogue with a process that all read",
    "test_scan.py::test_no_descriptor_to_be_had": "limits the process's descriptors",
    "test_handlers.py": "traces, and sets a handler",
    "test_leftovers.py": "forks, and sets where to unpack",
    "test_tar.py": "sets where to unpack",
    "test_threads.py": "has threads of its own",
}
