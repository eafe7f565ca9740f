internal import CWeirProcess
internal import Glibc

/// A program to run once.
package struct ProgramInvocation: Sendable, Equatable {
    package var path: String
    package var arguments: [String]
    /// Laid over the environment of this process.
    package var environment: [String: String]
    package var timeout: Duration

    package init(path: String, arguments: [String], environment: [String: String], timeout: Duration) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.timeout = timeout
    }
}

/// What a program left behind.
package struct ProgramOutcome: Sendable, Equatable {
    package enum End: Sendable, Equatable {
        case exited(Int32)
        case signaled(Int32)
        case timedOut
        /// It wrote more than ``PosixProgramRunner/outputBytesMax`` and was killed.
        case wroteTooMuch
    }

    package var end: End
    /// What it wrote to descriptor 3.
    package var output: [UInt8]
    package var standardError: String

    package init(end: End, output: [UInt8], standardError: String) {
        self.end = end
        self.output = output
        self.standardError = standardError
    }
}

/// Runs programs; the tests put their own in its place.
package protocol ProgramRunner {
    func run(_ invocation: ProgramInvocation) throws(CommandFailure) -> ProgramOutcome
}

/// Runs a program without input; reads its descriptor 3, and its stdout and stderr together.
package struct PosixProgramRunner: ProgramRunner {
    /// Bounds of what is kept: a job graph is a few kilobytes.
    package static let outputBytesMax = 16 << 20
    package static let standardErrorBytesMax = 1 << 20

    package init() {}

    package func run(_ invocation: ProgramInvocation) throws(CommandFailure) -> ProgramOutcome {
        var output: [Int32] = [-1, -1]
        var errors: [Int32] = [-1, -1]
        let piped = weir_pipe(&output)
        guard piped == 0 else { throw CommandFailure("cannot create a pipe: \(errnoText(-piped))") }
        let pipedErrors = weir_pipe(&errors)
        guard pipedErrors == 0 else {
            close(output[0])
            close(output[1])
            throw CommandFailure("cannot create a pipe: \(errnoText(-pipedErrors))")
        }
        let pid = spawn(invocation, output: output[1], errors: errors[1])
        close(output[1])
        close(errors[1])
        defer {
            close(output[0])
            close(errors[0])
        }
        guard pid > 0 else { throw CommandFailure("cannot run \(invocation.path): \(errnoText(-pid))") }
        return collect(pid: pid, output: output[0], errors: errors[0], timeout: invocation.timeout)
    }

    private func spawn(_ invocation: ProgramInvocation, output: Int32, errors: Int32) -> pid_t {
        // Swift's backtracer writes a hundred lines of registers below the one that says what is wrong: only for who asks.
        let environment = ["SWIFT_BACKTRACE": "enable=no"].merging(processEnvironment()) { _, new in new }
            .merging(invocation.environment) { _, new in new }
        return withCStrings([invocation.path] + invocation.arguments) { arguments in
            withCStrings(environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }) { environment in
                // Its stdout comes with its stderr: it must not mix with what this command prints for programs.
                weir_spawn(invocation.path, arguments, environment, [-1, errors, errors, output], 4, 0)
            }
        }
    }

    /// Reads both pipes until they end, within the time.
    private func collect(pid: pid_t, output: Int32, errors: Int32, timeout: Duration) -> ProgramOutcome {
        let deadline = monotonicMilliseconds() + max(1, timeout.components.seconds * 1_000 + timeout.components.attoseconds / 1_000_000_000_000_000)
        var streams = [Stream(descriptor: output, limit: Self.outputBytesMax), Stream(descriptor: errors, limit: Self.standardErrorBytesMax)]
        var forced: ProgramOutcome.End?
        var status: Int32 = 0
        var reaped = false
        while forced == nil, streams.contains(where: \.isOpen) {
            let left = deadline - monotonicMilliseconds()
            guard left > 0 else {
                forced = .timedOut
                break
            }
            var polled = streams.map { pollfd(fd: $0.isOpen ? $0.descriptor : -1, events: Int16(POLLIN), revents: 0) }
            // A child of the program may hold the pipes open after the program itself has ended.
            let ready = poll(&polled, nfds_t(polled.count), Int32(min(left, reaped ? 100 : 250)))
            for index in polled.indices where polled[index].revents != 0 { streams[index].read() }
            if streams[0].overflowed { forced = .wroteTooMuch }
            if reaped, ready == 0 { break }
            if !reaped { reaped = waitpid(pid, &status, WNOHANG) == pid }
        }
        if !reaped {
            if forced != nil { kill(pid, SIGKILL) }
            // Both pipes are closed: it ends soon, or hangs in its exit.
            while forced == nil, !reaped {
                reaped = waitpid(pid, &status, WNOHANG) == pid
                if reaped { break }
                guard monotonicMilliseconds() < deadline else {
                    forced = .timedOut
                    kill(pid, SIGKILL)
                    break
                }
                usleep(1_000)
            }
            while !reaped { reaped = waitpid(pid, &status, 0) == pid || errno == ECHILD }
        }
        let signal = status & 0x7f
        let end = forced ?? (signal == 0 ? .exited((status >> 8) & 0xff) : .signaled(signal))
        return ProgramOutcome(end: end, output: streams[0].bytes, standardError: String(decoding: streams[1].bytes, as: UTF8.self))
    }

    private struct Stream {
        let descriptor: Int32
        let limit: Int
        var bytes: [UInt8] = []
        var isOpen = true
        var overflowed = false

        init(descriptor: Int32, limit: Int) {
            self.descriptor = descriptor
            self.limit = limit
        }

        mutating func read() {
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { return }
            guard count > 0 else {
                isOpen = false
                return
            }
            let room = limit - bytes.count
            if count > room { overflowed = true }
            bytes.append(contentsOf: buffer[..<min(count, room)])
        }
    }
}

/// Lends a NULL-terminated array of C strings. Strings end at their first NUL byte, as they do for every process.
private func withCStrings<R>(_ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R) -> R {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    pointers.append(nil)
    return pointers.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("an array with one element has an address") }
        return body(base)
    }
}
