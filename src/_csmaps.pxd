# The types of the extension: what it takes from C, its limits, its structs and enums.
#
# The classes that Python sees are declared where their methods are (table.pxi, sweep.pxi,
# uses.pxi): Cython looks for a class's declaration only in a .pxd below a directory
# fastsmaps/, as the extension is a module of that package.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

# ---- C

cdef extern from "<fcntl.h>" nogil:
    int AT_FDCWD
    int O_PATH
    int openat(int directory, const char *name, int flags)

cdef extern from "<stdio.h>" nogil:
    int snprintf(char *text, size_t size, const char *form, ...)

cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)

cdef extern from "<sys/resource.h>" nogil:
    cdef struct rusage:
        long ru_nvcsw
    int RUSAGE_THREAD
    int getrusage(int who, rusage *usage)

cdef extern from "<sys/syscall.h>" nogil:
    long SYS_getdents64

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t preadv(int fd, const iovec *iov, int count, long long offset)

cdef extern from "<unistd.h>" nogil:
    int X_OK
    int faccessat(int directory, const char *name, int mode, int flags)
    long long lseek(int fd, long long offset, int whence)
    ssize_t pread(int fd, void *buffer, size_t size, long long offset)
    ssize_t readlinkat(int directory, const char *name, char *buffer, size_t size)
    long syscall(long number, ...)

cdef extern from "csmaps.h" nogil:
    const unsigned long PROCMAP_QUERY "FSM_PROCMAP_QUERY"
    ctypedef struct ProcmapQuery "struct fsm_procmap_query":
        uint64_t size
        uint64_t query_addr
        uint64_t vma_start
        uint64_t vma_end
        uint64_t vma_flags
        uint64_t vma_offset
        uint64_t inode
        uint32_t dev_major
        uint32_t dev_minor
        uint32_t vma_name_size
        uint32_t build_id_size
        uint64_t vma_name_addr
        uint64_t build_id_addr
    const uint32_t MISSING "FSM_MISSING"    # a cell: no such field in the record; an id: no line
    const uint32_t IS_WIDE "FSM_IS_WIDE"    # a cell: the value is among Parser.wide
    const uint64_t VSYSCALL "FSM_VSYSCALL"
    bint likely "FSM_LIKELY"(bint)
    bint equal4 "fsm_equal4"(const char *a, const char *b)
    bint equal16 "fsm_equal16"(const char *a, const char *b)
    bint eight_digits "fsm_eight_digits"(const char *p, uint32_t *number)
    bint eight_hex_digits "fsm_eight_hex_digits"(const char *p, uint64_t *number)
    bint fixed_hex "fsm_fixed_hex"(const char *p, size_t digits, uint64_t *number)
    uint64_t hash_text "fsm_hash_text"(const char *p, size_t length, const uint64_t *key)
    int kcmp_vm "fsm_kcmp_vm"(int a, int b)
    bint is_process "fsm_is_process"(int pid)
    void *exchange "fsm_exchange"(void **place, void *value)
    void *load_published "fsm_load_published"(void **place)
    bint publish_once "fsm_publish_once"(void **place, void *value)
    bint try_lock_shared "fsm_try_lock_shared"(int *threads)
    void unlock_shared "fsm_unlock_shared"(int *threads)
    bint try_lock_exclusive "fsm_try_lock_exclusive"(int *threads)
    void unlock_exclusive "fsm_unlock_exclusive"(int *threads)

# ---- limits

cdef enum:
    MAX_LABELS = 256        # number fields of a table, text fields of a record
    MAX_KNOWN_LABELS = 64
    MAX_SLOT_TEXT = 32      # bytes of a line that a slot remembers
    MAX_FLAGS_TEXT = 96     # bytes of a VmFlags line that is remembered
    MAX_TAIL = 256          # bytes of a header's dev, inode and name that are remembered
    FLAGS_SLOT = -1         # Slot.column of a VmFlags line
    RECENT_FLAGS = 4        # VmFlags lines to remember: a process has few, and neighbours differ
    MAX_CHUNKS = 64         # of one preadv()
    FIRST_CHUNKS = 16       # enough for most processes: 64 cost a small read 1.6 us more
    READ_BUFFER = 200000    # bytes: 64 chunks of 3,000 and the rest of the line before
    YIELD_BYTES = 120000    # bytes between two checks of whether the process waits for its lock
    YIELD_NANOSECONDS = 50000
    CALLS_PER_TURN = 64     # calls between two checks for signals: 12 MB, about 45 ms
    MAX_LINE = 16777216     # bytes of a line that is read: /dev/zero may be mounted over a file
    MAX_LINE_SHOWN = 4096   # bytes of such a line in the error
    ROWS_AT_ONCE = 64       # when columns are filled: 9 kB, which stay in the first-level cache
    MAX_COMM = 64           # TASK_COMM_LEN is 16, but stat shows more of a kernel worker
    MAX_FILES = 3           # small files that a Sweep reads of each process
    MAX_NAME = 4096         # PATH_MAX, the most that the kernel writes as a mapping's name
    MAX_BUILD_ID = 32       # bytes: BUILD_ID_SIZE_MAX is 20
    LISTING = 8192          # bytes of a directory that are listed at once
    SMALL_FILE = 16384      # bytes: a rollup has about 700, stat 300
    MAX_MAPS_LINES = 1 << 16    # of a process in one go: 24 ms
    MAX_TEXT = 131072       # bytes; these three as in fastsmaps/_backend/bounded.py
    MIN_TEXT = 64
    MAX_TEXTS = 8388608
    ELLIPSIS_SIZE = 3       # bytes of the "..." at the end of a shortened text
    MAX_SORTS = 8           # one more whenever a process ends during a sort

# The kernel's.
cdef enum:
    PF_EXITING = 0x4
    PF_FORKNOEXEC = 0x40
    PF_KTHREAD = 0x00200000
    # Where a process is in the directory /proc: its number plus this (fs/proc/base.c,
    # TGID_OFFSET).
    PID_OFFSET = 258
    DIRENT_LENGTH = 16      # where the entry's length is in a linux_dirent64
    DIRENT_NAME = 19        # where the name begins in a linux_dirent64
    DIRENT_SIZE = 48        # room for one linux_dirent64 with a number as its name

# ---- statm of many processes

cdef struct StatmRow:       # the columns of the table of statms(): see _csmaps.pyi
    int64_t pid
    int64_t fd
    int64_t inode
    int64_t resident
    int64_t shared
    int64_t text

cdef enum StatmChange:      # negative: -errno
    STATM_EQUAL
    STATM_MOVED
    STATM_OTHER_INODE

cdef struct StatmEvent:
    uint32_t slot
    int what

# ---- texts kept once each

cdef struct TextEntry:
    size_t offset
    size_t length
    uint64_t hash

cdef struct TextPool:
    char *bytes             # the texts, one after the other
    size_t used
    size_t capacity
    TextEntry *entries      # by id, in the order first seen
    uint32_t count
    uint32_t entry_capacity
    uint32_t *table         # open addressing: id + 1, 0 where free
    uint32_t mask

# ---- the parser: lines into rows

cdef enum LabelKind:        # which values a label may have
    SIZE_LABEL
    PAGE_SIZE_LABEL
    NUMBER_LABEL
    FLAGS_LABEL
    NAME_LABEL
    UNKNOWN_LABEL           # not in fastsmaps._fields: any value

cdef enum ValueKind:
    KILOBYTES               # a number with kB
    BARE_NUMBER
    TEXT
    NUMBER_TOO_LARGE

cdef enum Problem:          # the order of errors.PROBLEMS
    NO_LINE
    NO_HEADER
    BACKWARDS
    FIELD_FIRST
    NO_LABEL
    NO_NUMBER
    NO_UNIT
    OTHER_UNIT
    UNIT
    TOO_LARGE
    TWICE
    TOO_MANY
    NO_MEMORY
    NO_PROBLEM

cdef struct Row:            # followed by its cells (uint32_t)
    uint64_t start
    uint64_t end
    uint64_t offset
    uint64_t inode
    uint32_t perms          # r 1, w 2, x 4, s 8, neither s nor p 16
    uint32_t dev            # an id, as name and flags
    uint32_t name
    uint32_t flags

cdef struct WideValue:      # a value that does not fit a cell
    size_t row
    uint32_t column
    uint64_t value          # in bytes if the line has kB

cdef struct TextField:      # a field whose value is text
    size_t row
    size_t offset           # in Parser.text_bytes: the label, then the value
    size_t label_length
    size_t value_length

cdef struct Column:
    LabelKind kind
    int known               # its index among the known labels, or -1
    uint32_t unit           # of its cells: 1024 or 1
    bint sized              # every value had kB
    bint was_bare           # a process added before (Uses) had a value without kB

cdef struct Slot:           # a line of the record before
    char text[MAX_SLOT_TEXT]
    uint8_t length          # with its newline; 0 if the line takes the slow path
    uint8_t digits          # where "%8lu kB\n" begins, 0 if the line does not end like that
    int32_t column          # or FLAGS_SLOT

cdef struct FlagsLine:
    char text[MAX_FLAGS_TEXT]
    size_t length
    uint32_t flags

cdef struct KnownLabel:
    char text[MAX_SLOT_TEXT]
    size_t length
    LabelKind kind

cdef struct Sums:           # sums over rows, for each group of rows
    uint64_t *cells         # by group and column: sums of cells, in their column's unit
    uint64_t *seen          # by group and column: how many records have the field
    uint64_t *low           # by group and column: sums of the wide values' lower halves
    uint64_t *high          # and of their upper halves
    uint64_t *sizes         # by group: sums of end - start, as two halves
    uint32_t columns
    size_t groups

cdef struct Parser:
    # the rows, in one block that a table takes over at the end
    char *rows
    size_t block_size       # bytes
    size_t stride           # bytes of a row
    size_t count
    uint32_t column_count
    uint32_t cells          # columns that a row has room for
    Column columns[MAX_LABELS]
    TextPool labels
    TextPool names
    TextPool devs
    TextPool flags
    WideValue *wide
    size_t wide_count
    size_t wide_capacity
    TextField *text_fields
    size_t text_count
    size_t text_capacity
    char *text_bytes
    size_t text_bytes_used
    size_t text_bytes_capacity
    # the current record
    Row *row                # NULL before the first header
    uint32_t place          # index of the next line's slot; slot_count while slots are added
    uint32_t row_texts      # text fields so far
    bint header_has_name
    bint has_name_line
    # the record before
    Slot slots[MAX_LABELS + 1]
    uint32_t slot_count
    size_t address_digits
    char tail[MAX_TAIL]     # its header from dev on
    size_t tail_length      # 0 if it was not remembered
    uint32_t tail_dev
    uint32_t tail_name
    uint64_t tail_inode
    FlagsLine recent_flags[RECENT_FLAGS]
    uint32_t next_recent
    # the text
    bint crlf               # a CR before a newline belongs to the line's end
    bint sums_only          # rows are added up and dropped; names, flags and texts as well
    Sums sums
    size_t text_size        # 0 if not known
    const char *base        # the bytes at hand
    size_t base_offset      # where they are in the text
    size_t lines            # before the current line
    Problem problem
    const char *bad_line
    size_t bad_length

# ---- reading a descriptor

cdef enum ReadStatus:
    MORE
    COMPLETE
    INCOMPLETE              # no byte at offset 0 after the end: empty, or torn
    INTERRUPTED
    READ_FAILED             # see Reader.error
    PARSE_FAILED            # see Parser.problem

cdef struct Reader:
    int fd
    char *buffer
    size_t buffer_size
    size_t carry            # bytes of an incomplete line at the buffer's start
    long long offset        # in the file
    size_t chunk_size
    int chunks
    size_t lines            # where lines are counted and not parsed
    bint filled             # the last call filled all of its chunks
    size_t since_yield      # bytes since the last check of whether the process waits
    bint contended          # the process waits for its mmap lock meanwhile
    long switches           # this thread's voluntary context switches at the last check, or 0
    int error

# ---- columns out of rows

cdef struct ColumnRequest:
    size_t offset           # of the value in a row
    size_t width            # bytes of a value
    uint64_t unit           # of a cell; 0 for a value of the header
    uint32_t column
    bint all_zero           # so far; no value is written yet
    size_t absent           # rows that lack it
    size_t block_offset     # of its values in the block
    char *values

# ---- many processes

cdef struct Buffer:
    char *bytes
    size_t size

cdef enum Outcome:          # the order of fastsmaps._host.rows.SWEEP_OUTCOMES
    READ
    DENIED
    KERNEL_THREAD
    ZOMBIE
    OUTSIDE                 # its Rss is not within the limits
    LARGE                   # too large to be read in one go
    OTHER                   # anything else: the caller reads it with Process, which classifies it
    SHARED                  # it has all of its memory in common with its parent

cdef struct Process:
    int32_t pid
    int32_t ppid
    uint32_t uid
    uint32_t record         # the index of its rollup among the parser's rows
    uint64_t start_time     # ticks since boot
    uint64_t stack          # where its stack begins
    uint64_t resident       # pages, from statm
    uint32_t mappings       # lines of maps
    uint32_t texts[MAX_FILES]
    uint8_t outcome
    uint8_t has_stat
    uint8_t forked          # and has not called exec since
    uint8_t own_memory      # kcmp(2) saw other memory than its parent's
    uint8_t comm_length
    char comm[MAX_COMM]

cdef struct SweepState:
    Parser *parser          # of the rollups
    Process *processes
    size_t count
    size_t capacity
    TextPool texts[MAX_FILES]
    size_t text_limit[MAX_FILES]    # longer texts are shortened to this many bytes
    size_t pool_limit[MAX_FILES]    # bytes of all texts before they are shortened further
    const char *files[MAX_FILES]
    bint is_link[MAX_FILES]
    int file_count
    bint read_statm
    uint64_t min_pages
    uint64_t max_pages
    uint64_t large_pages
    bint read_rollups
    bint compare            # with the parent's memory; the pids are of our own namespace
    size_t maps_chunk       # size of the chunks in which maps is read; 0: do not count mappings
    Buffer buffer

# ---- users of files

cdef struct FileKey:        # one path may lead to several files
    uint64_t inode
    uint32_t dev
    uint32_t name

cdef struct UserCounts:     # by id of a name or file
    uint32_t *count         # how many processes use it
    uint32_t *last          # the number of the last process that uses it
    size_t capacity
