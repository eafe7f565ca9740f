// Linux calls that Swift's Glibc overlay does not import, or imports awkwardly (variadic, packed, macro).
//
// Every function returns what the call returns, or a negated errno where it says so: nothing here keeps state or allocates. No
// system header is included, so that the module clashes with no other module's view of one.
#ifndef CWEIRSYSTEM_H
#define CWEIRSYSTEM_H

#include <stddef.h>
#include <stdint.h>

// ---- epoll ----

struct weir_event {
    uint64_t token;   // The one given at registration.
    uint32_t events;  // WEIR_READABLE...
    uint32_t reserved;
};

enum {
    WEIR_READABLE = 1,
    WEIR_WRITABLE = 2,
    WEIR_HANGUP = 4,  // Error or both directions closed.
    WEIR_EVENTS_MAX = 64,
};

int weir_epoll_create(void);

// operation: 0 add, 1 modify, 2 remove. Returns 0 or -errno.
int weir_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token);

// Waits at most `timeout_ms` (-1: without end). `out` has room for WEIR_EVENTS_MAX. Returns the number or -errno.
int weir_epoll_wait(int epoll, struct weir_event *out, int timeout_ms);

// ---- eventfd ----

int weir_eventfd_create(void);
void weir_eventfd_signal(int descriptor);
void weir_eventfd_drain(int descriptor);

// ---- sockets ----

// A non-blocking, close-on-exec stream socket. Returns the descriptor or -errno.
int weir_socket_stream(int family);

// Accepts a non-blocking, close-on-exec connection. `address` has room for a sockaddr_storage. Returns the descriptor or -errno.
int weir_accept(int listener, void *address, uint32_t *length);

// Small messages leave at once; a peer whose host vanished is noticed by the kernel after about `dead_after_ms`.
void weir_socket_tune(int descriptor, int dead_after_ms);
void weir_socket_reuse_address(int descriptor);

// The pending error of a socket, as an errno; 0: none.
int weir_socket_error(int descriptor);

// As writev of `count` iovecs, but a closed peer gives EPIPE instead of a signal. Returns the bytes or -errno.
intptr_t weir_send_vector(int descriptor, const void *vectors, size_t count);

// Returns the bytes, 0 at the end of the stream, or -errno.
intptr_t weir_receive(int descriptor, void *buffer, size_t bytes);

// ---- processes and threads ----

// The calling process is sent `signal` when the thread that spawned it ends. Returns 0 or -errno.
int weir_set_parent_death_signal(int signal);

// Names the calling thread; the kernel keeps 15 bytes.
void weir_set_thread_name(const char *name);

// The number of processors that the calling thread may run on; at least 1.
int weir_allowed_processors(void);

// Pins the calling thread to the `index`-th processor (modulo their number) that it may run on. Returns the processor or -errno.
int weir_pin_thread(int index);

int weir_thread_id(void);

// Waits while `*word == expected`, at most `timeout_ns` (negative: without end). Returns 0 when woken, else -errno (EAGAIN,
// ETIMEDOUT, EINTR): callers look at the word again in every case.
int weir_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns);
void weir_futex_wake(const uint32_t *word, int waiters);

// The system's words for an errno, ended by a zero; `out` has room for `bytes`, at least 1.
void weir_error_text(int code, char *out, size_t bytes);

// ---- clocks ----

int64_t weir_monotonic_nanoseconds(void);
int64_t weir_thread_cpu_nanoseconds(void);
int64_t weir_process_cpu_nanoseconds(void);

#endif
