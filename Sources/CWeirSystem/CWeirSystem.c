// Wrappers without state; the header says what each does.
#define _GNU_SOURCE
#include "CWeirSystem.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// ---- epoll ----

static uint32_t weir_epoll_mask(uint32_t events) {
    uint32_t mask = 0;
    if (events & WEIR_READABLE) mask |= EPOLLIN | EPOLLRDHUP;
    if (events & WEIR_WRITABLE) mask |= EPOLLOUT;
    return mask;
}

int weir_epoll_create(void) {
    int descriptor = epoll_create1(EPOLL_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int weir_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event;
    event.events = weir_epoll_mask(events);
    event.data.u64 = token;
    int op = operation == 0 ? EPOLL_CTL_ADD : operation == 1 ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    return epoll_ctl(epoll, op, descriptor, &event) < 0 ? -errno : 0;
}

int weir_epoll_wait(int epoll, struct weir_event *out, int timeout_ms) {
    struct epoll_event events[WEIR_EVENTS_MAX];
    int count = epoll_wait(epoll, events, WEIR_EVENTS_MAX, timeout_ms);
    if (count < 0) return -errno;
    for (int i = 0; i < count; i++) {
        uint32_t mask = 0;
        if (events[i].events & (EPOLLIN | EPOLLRDHUP)) mask |= WEIR_READABLE;
        if (events[i].events & EPOLLOUT) mask |= WEIR_WRITABLE;
        if (events[i].events & (EPOLLERR | EPOLLHUP)) mask |= WEIR_HANGUP;
        out[i].token = events[i].data.u64;
        out[i].events = mask;
        out[i].reserved = 0;
    }
    return count;
}

// ---- eventfd ----

int weir_eventfd_create(void) {
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return descriptor < 0 ? -errno : descriptor;
}

void weir_eventfd_signal(int descriptor) {
    uint64_t one = 1;
    // EAGAIN means that the counter is full: the waiter wakes anyway.
    ssize_t ignored = write(descriptor, &one, sizeof one);
    (void)ignored;
}

void weir_eventfd_drain(int descriptor) {
    uint64_t count;
    ssize_t ignored = read(descriptor, &count, sizeof count);
    (void)ignored;
}

// ---- sockets ----

int weir_socket_stream(int family) {
    int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return descriptor < 0 ? -errno : descriptor;
}

int weir_accept(int listener, void *address, uint32_t *length) {
    int descriptor = accept4(listener, (struct sockaddr *)address, (socklen_t *)length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

void weir_socket_tune(int descriptor, int dead_after_ms) {
    int on = 1;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    int probe_after = dead_after_ms / 2000 > 0 ? dead_after_ms / 2000 : 1, interval = 1, probes = probe_after;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPIDLE, &probe_after, sizeof probe_after);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    unsigned int timeout = (unsigned int)dead_after_ms;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

void weir_socket_reuse_address(int descriptor) {
    int on = 1;
    (void)setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

int weir_socket_error(int descriptor) {
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) < 0) return errno;
    return error;
}

intptr_t weir_send_vector(int descriptor, const void *vectors, size_t count) {
    struct msghdr message = {0};
    message.msg_iov = (struct iovec *)vectors;
    message.msg_iovlen = count;
    ssize_t sent = sendmsg(descriptor, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

intptr_t weir_receive(int descriptor, void *buffer, size_t bytes) {
    ssize_t received = recv(descriptor, buffer, bytes, MSG_DONTWAIT);
    return received < 0 ? -errno : received;
}

// ---- processes and threads ----

int weir_set_parent_death_signal(int signal) {
    return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 ? -errno : 0;
}

void weir_set_thread_name(const char *name) { (void)prctl(PR_SET_NAME, name, 0, 0, 0); }

int weir_allowed_processors(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int weir_pin_thread(int index) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0) return -errno;
    int count = CPU_COUNT(&allowed);
    if (count <= 0 || index < 0) return -EINVAL;
    int wanted = index % count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        if (wanted-- > 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        return sched_setaffinity(0, sizeof one, &one) < 0 ? -errno : cpu;
    }
    return -EINVAL;
}

int weir_thread_id(void) { return (int)syscall(SYS_gettid); }

int weir_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout_ns < 0 ? NULL : &timeout, NULL, 0);
    return result < 0 ? -errno : 0;
}

void weir_futex_wake(const uint32_t *word, int waiters) {
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, waiters, NULL, NULL, 0);
}

void weir_error_text(int code, char *out, size_t bytes) {
    char buffer[256];
    snprintf(out, bytes, "%s", strerror_r(code, buffer, sizeof buffer));
}

// ---- clocks ----

static int64_t weir_clock_nanoseconds(clockid_t clock) {
    struct timespec now;
    if (clock_gettime(clock, &now) < 0) return 0;
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t weir_monotonic_nanoseconds(void) { return weir_clock_nanoseconds(CLOCK_MONOTONIC); }
int64_t weir_thread_cpu_nanoseconds(void) { return weir_clock_nanoseconds(CLOCK_THREAD_CPUTIME_ID); }
int64_t weir_process_cpu_nanoseconds(void) { return weir_clock_nanoseconds(CLOCK_PROCESS_CPUTIME_ID); }
