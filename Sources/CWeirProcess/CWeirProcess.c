#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "CWeirProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

int weir_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }

pid_t weir_spawn(
    const char *path, char *const arguments[], char *const environment[], const int *descriptors, int count, int new_session) {
    if (count < 0 || count > WEIR_SPAWN_DESCRIPTORS_MAX) return -EINVAL;
    // Copies out of the way first: a source may bear a number that an earlier target overwrites.
    int sources[WEIR_SPAWN_DESCRIPTORS_MAX];
    int error = 0;
    for (int i = 0; i < count; i++) {
        sources[i] = descriptors[i] < 0 ? -1 : fcntl(descriptors[i], F_DUPFD_CLOEXEC, WEIR_SPAWN_DESCRIPTORS_MAX);
        if (descriptors[i] >= 0 && sources[i] < 0 && error == 0) error = errno;
    }
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t pid = 0;
    if (error == 0) error = posix_spawn_file_actions_init(&actions);
    if (error == 0) {
        for (int i = 0; i < count && error == 0; i++) {
            error = sources[i] < 0 ? posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0)
                                   : posix_spawn_file_actions_adddup2(&actions, sources[i], i);
        }
        if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, count);
        if (error == 0) error = posix_spawnattr_init(&attributes);
        if (error == 0) {
            sigset_t none, all;
            sigemptyset(&none);
            sigfillset(&all);
            posix_spawnattr_setsigmask(&attributes, &none);
            posix_spawnattr_setsigdefault(&attributes, &all);
            short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
            if (new_session) flags |= POSIX_SPAWN_SETSID;
            posix_spawnattr_setflags(&attributes, flags);
            error = posix_spawn(&pid, path, &actions, &attributes, arguments, environment);
            posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&actions);
    }
    for (int i = 0; i < count; i++) {
        if (sources[i] >= 0) close(sources[i]);
    }
    return error == 0 ? pid : -error;
}

static void *weir_watch_standard_input(void *unused) {
    (void)unused;
    char buffer[256];
    while (1) {
        ssize_t count = read(STDIN_FILENO, buffer, sizeof buffer);
        if (count > 0 || (count < 0 && errno == EINTR)) continue;
        kill(getpid(), SIGTERM);
        return NULL;
    }
}

int weir_end_with_standard_input(void) {
    pthread_t thread;
    int error = pthread_create(&thread, NULL, weir_watch_standard_input, NULL);
    if (error == 0) pthread_detach(thread);
    return -error;
}
