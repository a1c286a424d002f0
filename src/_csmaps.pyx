"""Parse maps, smaps and smaps_rollup into columns, without the GIL.

Successive records of a file are alike: the same labels in the same order, and most lines are
equal byte for byte. So each line is compared with the line at the same place of the record
before (a Slot). An equal line costs two 16-byte compares and no conversion. A line that
differs only in its number costs one conversion of eight digits. Every other line takes the
slow path (parse_field_line, parse_header_line), which knows the whole grammar. The result is
the same.

A row is one struct with 32-bit cells in kB. It is copied from the row before it and then
patched: one stream of stores, and half the memory of 64-bit columns. Memory decides the speed
here. The rare value that does not fit a cell goes to a separate list (WideValue). A column of
64-bit numbers is built when it is asked for.

fastsmaps/_backend/_pysmaps.py is the same in Python. Both give the same results and errors.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.errno cimport (
    EACCES, EINTR, EINVAL, EMFILE, ENFILE, ENOENT, ENOMEM, EPERM, ESRCH, ETIMEDOUT, errno,
)
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset, strcpy, strlen
from posix.fcntl cimport O_CLOEXEC, O_DIRECTORY, O_NONBLOCK, O_RDONLY
from posix.stat cimport fstat, struct_stat
from posix.time cimport (
    CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID, clock_gettime, nanosleep, timespec,
)
from posix.unistd cimport close

from _csmaps cimport *

from os import strerror as _strerror, urandom as _urandom

from fastsmaps import _errors
from fastsmaps._fields import FLAGS, MAX_LABELS as _MAX_LABELS, NAME, NUMBERS, PAGE_SIZES, SIZES

# One translation unit, so that the compiler may inline across its parts. The types are in
# _csmaps.pxd. Each part names in its first lines the parts above it that it uses.
#
# Parsing: bytes into rows, without descriptors and without Python objects.
#   numbers        numbers and blanks in a line
#   text_pool      texts kept once each, under an id
#   rows           a parser's state and its rows
#   header_line    slow path for a record's first line
#   field_line     slow path for its other lines
#   parse_lines    the fast path, and the loop over lines
#   sums           sums over rows
# One text: a table, its sums, or the number of its lines.
#   read_chunks    read a descriptor and parse what it gives, or count its lines
#   columns        64-bit columns out of rows
#   table          class Table; parse(), read(), total(), lines()
# Many processes, below an open /proc.
#   proc_files     open and read their small files
#   rollup         one process's rollup or table by its number: rollup(), rollup_at(), read_at()
#   statms         statm of many, and who was born: statms(), pids_between()
#   find           one mapping by an address: find(), find_at(), find_many()
#   stat_line      what stat says of a process
#   same_memory    which processes share all of their memory: same_memory()
#   read_process   one process of a sweep
#   sweep          class Sweep: many processes, a row each
#   uses           class Uses: sums by mapped file
include "numbers.pxi"
include "text_pool.pxi"
include "rows.pxi"
include "header_line.pxi"
include "field_line.pxi"
include "parse_lines.pxi"
include "sums.pxi"
include "read_chunks.pxi"
include "columns.pxi"
include "table.pxi"
include "proc_files.pxi"
include "rollup.pxi"
include "statms.pxi"
include "find.pxi"
include "stat_line.pxi"
include "same_memory.pxi"
include "read_process.pxi"
include "sweep.pxi"
include "uses.pxi"
