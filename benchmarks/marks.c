/* Begin and end callgrind's count of instructions, for instructions.py. */

#include <valgrind/callgrind.h>

void begin(void) { CALLGRIND_ZERO_STATS; }

void end(const char *what) { CALLGRIND_DUMP_STATS_AT(what); }
