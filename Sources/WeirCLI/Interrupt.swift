internal import Glibc

/// Ctrl-C as something to wait for, instead of something that kills.
///
/// - Important: ``init()`` blocks the signal for this thread and those it starts later: make it before any of them.
package struct Interrupt {
    private var set = sigset_t()

    package init() {
        sigemptyset(&set)
        sigaddset(&set, SIGINT)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Waits; true: the signal came.
    package func wait(milliseconds: Int) -> Bool {
        var set = set
        var timeout = timespec(tv_sec: milliseconds / 1_000, tv_nsec: milliseconds % 1_000 * 1_000_000)
        return sigtimedwait(&set, nil, &timeout) == SIGINT
    }
}
