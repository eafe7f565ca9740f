// Starting processes: the parts of it that glibc shows to GNU sources only, or that Swift cannot call in a signal-safe order.
#ifndef CWEIRPROCESS_H
#define CWEIRPROCESS_H

#include <sys/types.h>

enum {
    WEIR_SPAWN_DESCRIPTORS_MAX = 8,
};

// A pipe whose ends are closed on exec: ends[0] is read, ends[1] written. Returns 0 or -errno.
int weir_pipe(int ends[2]);

// Starts a program whose descriptors are 0...count-1, the i-th a copy of descriptors[i] (-1: /dev/null), and no others. Its signal mask
// is empty and every signal has its default action, whatever the caller blocks and ignores.
//
// new_session: it leads a session and process group of its own.
// Returns its process id, or -errno.
pid_t weir_spawn(
    const char *path, char *const arguments[], char *const environment[], const int *descriptors, int count, int new_session);

// Has the process sent SIGTERM, as if from outside, when its standard input ends: for programs that are started by one which may die. What
// comes in is thrown away. The thread that watches has the caller's signal mask. Returns 0 or -errno.
int weir_end_with_standard_input(void);

#endif
