import CWeirProcess
import Glibc
import WeirBase

/// What a process took from its start to its end.
struct ProcessCost {
    /// User and system time of all its threads, and of its child processes as far as it waited for them.
    var cpuSeconds: Double
    var residentBytesMax: Int
    /// CPU seconds by the names of threads, as far as they were watched: a thread's last few milliseconds are missing.
    var threads: [String: Double] = [:]
}

/// A process whose output is read here and whose cost the kernel tells at its end.
///
/// Used by one thread, which reads the output while it waits: a process that nobody waits for stands still once the pipe is full.
final class MeasuredProcess {
    let started: ContinuousClock.Instant
    private let pid: pid_t
    private let output: Int32
    private var isReaped = false
    private var text: [UInt8] = []
    private var isAtEnd = false
    private var threads: [String: (name: String, seconds: Double)] = [:]
    private let name: String

    /// - Parameters:
    ///   - executable: A path, or "" for the program that runs.
    ///   - environment: Beside this process's own.
    init(_ executable: String, _ arguments: [String], environment: [String: String] = [:]) throws {
        let path = executable.isEmpty ? Self.ownPath : executable
        name = ([path.split(separator: "/").last.map(String.init) ?? path] + arguments.prefix(1)).joined(separator: " ")
        var ends: [Int32] = [-1, -1]
        guard weir_pipe(&ends) == 0 else { throw benchFailure("cannot make a pipe", cause: "\(errno)") }
        defer { close(ends[1]) }
        output = ends[0]
        var words = Self.inheritedEnvironment
        words += environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        started = .now
        pid = Self.withCStrings([path] + arguments) { arguments in
            Self.withCStrings(words) { environment in weir_spawn(path, arguments, environment, [-1, ends[1], ends[1]], 3, 0) }
        }
        guard pid > 0 else {
            close(ends[0])
            throw benchFailure("cannot start \(path)", cause: "errno \(-pid); build first: make build CONFIG=release")
        }
    }

    deinit {
        if !isReaped {
            kill(pid, SIGKILL)
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        }
        close(output)
    }

    static var ownPath: String {
        var buffer = [UInt8](repeating: 0, count: 4_096)
        let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }

    /// Waits until it has printed a text.
    ///
    /// - Returns: The line with the text.
    func line(containing wanted: String, timeout: Duration = .seconds(30)) throws -> String {
        let deadline = ContinuousClock.now + timeout
        while true {
            let line = String(decoding: text, as: UTF8.self).split(separator: "\n").first { $0.contains(wanted) }
            if let line { return String(line) }
            guard try read(until: deadline) else { throw benchFailure("\(name) did not print \"\(wanted)\"", cause: tail) }
        }
    }

    /// Waits for its end.
    ///
    /// - Parameter watchingThreads: Whether to note every few milliseconds what each of its threads has taken.
    /// - Throws: Where it ends in another way than with 0, with the last lines that it printed.
    func finish(timeout: Duration = .seconds(300), watchingThreads: Bool = false) throws -> ProcessCost {
        let deadline = ContinuousClock.now + timeout
        while !isAtEnd, ContinuousClock.now < deadline {
            _ = try read(until: watchingThreads ? min(deadline, .now + .milliseconds(10)) : deadline)
            if watchingThreads { watchThreads() }
        }
        guard isAtEnd else { throw benchFailure("\(name) took more than \(timeout)", cause: tail) }
        var status: Int32 = 0
        var usage = rusage()
        while wait4(pid, &status, 0, &usage) < 0, errno == EINTR {}
        isReaped = true
        guard status == 0 else { throw benchFailure("\(name) ended with status \(status)", cause: tail) }
        return ProcessCost(
            cpuSeconds: Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime), residentBytesMax: Int(usage.ru_maxrss) * 1_024,
            threads: Dictionary(threads.values.map { ($0.name, $0.seconds) }, uniquingKeysWith: +))
    }

    private func watchThreads() {
        guard let directory = opendir("/proc/\(pid)/task") else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let thread = withUnsafePointer(to: &entry.pointee.d_name) { name in
                name.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let name = firstLine("task/\(thread)/comm"), let times = firstLine("task/\(thread)/schedstat"),
                let nanoseconds = times.split(separator: " ").first.flatMap({ Double($0) })
            else { continue }
            threads[thread] = (name, nanoseconds / 1e9)
        }
    }

    /// SIGTERM: ``finish(timeout:)`` waits for what follows from it.
    func terminate() { kill(pid, SIGTERM) }

    /// What it has in memory now, in bytes; 0 if it is gone.
    var residentBytes: Int {
        let fields = firstLine("statm")?.split(separator: " ") ?? []
        return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
    }

    /// Of one of its files below `/proc`; nil once it is gone.
    private func firstLine(_ file: String) -> String? {
        guard let file = fopen("/proc/\(pid)/\(file)", "r") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, Int32(line.count), file) != nil else { return nil }
        return String(decoding: line.prefix { $0 != 0 && $0 != 0x0A }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Takes what it prints.
    ///
    /// - Returns: False at the end of the output and after the deadline.
    private func read(until deadline: ContinuousClock.Instant) throws -> Bool {
        let left = (deadline - .now).inMilliseconds
        var entry = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
        guard left > 0, poll(&entry, 1, Int32(clamping: left)) > 0 else { return ContinuousClock.now < deadline }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        let count = Glibc.read(output, &buffer, buffer.count)
        guard count > 0 else {
            isAtEnd = true
            return false
        }
        text += buffer[..<count]
        if text.count > 1 << 20 { text.removeFirst(text.count - (1 << 19)) }
        return true
    }

    private var tail: String { String(decoding: text, as: UTF8.self).split(separator: "\n").suffix(10).joined(separator: "\n") }

    private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

    /// Without Weir's own variables: figures must not depend on what a person has set for a cluster.
    private static var inheritedEnvironment: [String] {
        var result: [String] = []
        var entry = environ
        while let pointer = entry.pointee {
            let text = String(cString: pointer)
            if !text.hasPrefix("WEIR_") { result.append(text) }
            entry += 1
        }
        return result
    }

    private static func withCStrings<Result>(_ words: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result) -> Result {
        let pointers = words.map { strdup($0) }
        defer { for pointer in pointers { free(pointer) } }
        return body(pointers + [nil])
    }
}

func benchFailure(_ message: String, cause: String) -> JobFailure {
    JobFailure(domain: .system, recovery: .fail, message: message, cause: cause)
}
