internal import Glibc

/// The system's words for an errno, by default the current one.
func errnoText(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }

/// A signal by the name and the words that people know.
func signalInWords(_ number: Int32) -> String {
    switch number {
    case SIGILL: "SIGILL: a Swift runtime check failed"
    case SIGTRAP: "SIGTRAP: a Swift runtime check failed"
    case SIGSEGV: "SIGSEGV: it touched memory that is not its own"
    case SIGBUS: "SIGBUS: it touched memory that is not there"
    case SIGABRT: "SIGABRT: it gave up"
    case SIGFPE: "SIGFPE: an arithmetic fault"
    case SIGKILL: "SIGKILL: killed from outside, perhaps for want of memory"
    case SIGTERM: "SIGTERM: asked to end from outside"
    case SIGINT: "SIGINT: interrupted"
    default: "signal \(number): \(String(cString: strsignal(number)))"
    }
}

/// Writes all of a text to a descriptor; errors are dropped, as there is nobody left to tell.
func writeText(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var done = 0
        while done < bytes.count {
            let count = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            done += count
        }
    }
}

/// Milliseconds since 1970.
func wallClockMilliseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Int64(now.tv_sec) * 1_000 + Int64(now.tv_nsec) / 1_000_000
}

/// Milliseconds of the monotonic clock.
func monotonicMilliseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Int64(now.tv_sec) * 1_000 + Int64(now.tv_nsec) / 1_000_000
}
