"""The hot loop: the text of maps, smaps or smaps_rollup into columns, without the GIL.

Successive records of a file are alike: the same labels in the same order, and most lines the
same to the letter. So each line is compared with the one that the previous record had at
that place (a Slot): an equal line costs two 16-byte compares and no conversion, one that
differs in its number alone one conversion of eight digits, and everything else goes the
general way (field_line, header_line), which knows the whole grammar. The result is the same.

A row is one struct of 32-bit cells in kB, written once as a copy of the row before it and
then patched: a single stream of stores, half the memory of 64-bit columns, and the memory
decides the speed here. The rare value that does not fit a cell is kept in a list beside
(Wide). A column of 64-bit numbers is built when it is asked for.

fastsmaps/_backend/_pysmaps.py is the same in Python; both give the same results and errors.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.errno cimport EACCES, EINTR, EMFILE, ENFILE, ENOMEM, EPERM, ETIMEDOUT, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

from os import strerror as _strerror, urandom as _urandom

from fastsmaps import _errors

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t preadv(int fd, const iovec *iov, int count, long long offset)

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *buffer, size_t size, long long offset)

cdef extern from "csmaps.h" nogil:
    bint likely "FSM_LIKELY"(bint)
    bint same4 "fsm_same4"(const char *a, const char *b)
    bint same16 "fsm_same16"(const char *a, const char *b)
    bint eight_digits "fsm_eight_digits"(const char *p, uint32_t *number)
    bint eight_hex "fsm_eight_hex"(const char *p, uint64_t *number)
    bint wide_hex "fsm_wide_hex"(const char *p, size_t width, uint64_t *number)
    uint64_t hash_of "fsm_hash"(const char *p, size_t n, const uint64_t *key)
    void *exchange "fsm_exchange"(void **place, void *value)
    void *published "fsm_published"(void **place)
    bint publish "fsm_publish"(void **place, void *value)
    bint enter "fsm_enter"(int *threads)
    void leave "fsm_leave"(int *threads)
    bint enter_alone "fsm_enter_alone"(int *threads)
    void leave_alone "fsm_leave_alone"(int *threads)

include "pool.pxi"
include "rows.pxi"
include "header.pxi"
include "field.pxi"
include "scan.pxi"
include "sums.pxi"
include "read.pxi"
include "columns.pxi"
include "table.pxi"
include "sharing.pxi"
include "sweep.pxi"
include "uses.pxi"
