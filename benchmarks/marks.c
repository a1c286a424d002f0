/* Where callgrind's count of instructions begins and ends, for instructions.py. */

#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_ZERO_STATS; }

void end(const char *what) { CALLGRIND_DUMP_STATS_AT(what); }
