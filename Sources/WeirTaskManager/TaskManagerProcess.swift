internal import CWeirProcess
internal import Glibc
package import Logging
internal import Synchronization
package import WeirBase
internal import WeirTransport

/// A TaskManager as a process: it runs until a signal ends it.
package struct TaskManagerProcess {
    private let options: TaskManagerOptions
    private let configuration: Configuration
    private let print: @Sendable (String) -> Void
    private let complain: @Sendable (String) -> Void

    /// - Parameters:
    ///   - print: Takes a line for stdout.
    ///   - complain: Takes a line for stderr.
    package init(
        configuration: Configuration, print: @escaping @Sendable (String) -> Void, complain: @escaping @Sendable (String) -> Void
    ) throws(ConfigurationError) {
        options = try TaskManagerOptions(configuration: configuration)
        self.configuration = configuration
        self.print = print
        self.complain = complain
    }

    /// Runs until SIGTERM or SIGINT; a second one ends it at once.
    ///
    /// - Important: Call it on the main thread, before any other is started: they inherit its blocked signals.
    /// - Parameter untilInputEnds: The end of standard input is taken for a SIGTERM.
    /// - Returns: The process's exit code.
    package func run(logger: Logger, untilInputEnds: Bool = false) -> Int32 {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGTERM)
        sigaddset(&signals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        // A log or a worker's pipe that nobody reads must not end this process.
        signal(SIGPIPE, SIG_IGN)

        for (name, value) in effective where !value.isEmpty { print("\(name): \(value)") }
        let announcer = Announcer(print: print, complain: complain, options: options)
        let manager: TaskManager
        do {
            manager = try TaskManager(options: options, logger: logger) { announcer.handle($0) }
        } catch {
            complain("error: \(error)")
            return 1
        }
        if untilInputEnds, weir_end_with_standard_input() != 0 {
            complain("error: cannot watch standard input")
            return 1
        }
        manager.start()
        let first = wait(for: signals)
        if announcer.wasRefused { return 1 }
        logger.notice("stopping", metadata: ["signal": "\(first)"])
        manager.stop { kill(getpid(), SIGTERM) }
        // Either the end of the stop or the second signal; workers that are left see this process die.
        _ = wait(for: signals)
        return 0
    }

    private func wait(for signals: sigset_t) -> Int32 {
        var signals = signals
        var received: Int32 = 0
        while sigwait(&signals, &received) != 0 {}
        return received
    }

    /// What this process was started with.
    package static var environment: [String: String] { processEnvironment() }

    /// Writes a line, unbuffered: whoever started this process waits for the ready line.
    package static func write(_ line: String, to descriptor: Int32) {
        var line = line + "\n"
        line.withUTF8 { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                done += count
            }
        }
    }

    /// As configured, with what was derived put in.
    private var effective: [(name: String, value: String)] {
        configuration.effective.map { name, value in
            switch name {
            case "taskmanager.resource-id": (name, options.resourceID)
            case "taskmanager.host": (name, options.dataHost)
            case "taskmanager.log.dir": (name, options.logDirectory)
            default: (name, value)
            }
        }
    }
}

/// Says what a person who started the process waits for: once ready, or why never.
private final class Announcer: Sendable {
    private struct State {
        var announced = false
        var refused = false
        var lastComplaint = ""
    }

    private let print: @Sendable (String) -> Void
    private let complain: @Sendable (String) -> Void
    private let options: TaskManagerOptions
    private let state = Mutex(State())

    init(print: @escaping @Sendable (String) -> Void, complain: @escaping @Sendable (String) -> Void, options: TaskManagerOptions) {
        self.print = print
        self.complain = complain
        self.options = options
    }

    var wasRefused: Bool { state.withLock { $0.refused } }

    func handle(_ event: TaskManagerEvent) {
        switch event {
        case .registered(let jobManager):
            guard state.withLock({ !$0.announced.exchange(true) }) else { return }
            let slots = options.slots == 1 ? "1 slot" : "\(options.slots) slots"
            print("taskmanager \(options.resourceID) ready: \(slots), registered with \(jobManager)")
        case .disconnected(let reason):
            // Each reason once: a JobManager that starts later is tried many times.
            let isNew = state.withLock { state in
                defer { state.lastComplaint = reason }
                return !state.announced && state.lastComplaint != reason
            }
            if isNew { complain("not connected to the JobManager yet: \(reason); trying again") }
        case .refused(let reason, let hint):
            state.withLock { $0.refused = true }
            complain("error: the JobManager at \(options.jobManagerHost):\(options.jobManagerPort) refused this TaskManager: \(reason)")
            if !hint.isEmpty { complain("hint: \(hint)") }
            // Wakes the main thread, which waits for signals alone.
            kill(getpid(), SIGTERM)
        }
    }
}

extension Bool {
    /// Sets the value and gives the old one.
    fileprivate mutating func exchange(_ new: Bool) -> Bool {
        defer { self = new }
        return self
    }
}
