internal import WeirTransport
package import WeirWire

/// Follows a job until it ends, and says what happens to it.
package struct JobAttachment {
    /// How long the JobManager may be gone before the command gives up; the job does not depend on either.
    package static let patienceMs: Int64 = 60_000

    package enum End: Sendable, Equatable {
        case terminal(WireJobState)
        case detached
        case lost(String)
    }

    private let address: JobManagerAddress
    private let job: String
    private let asJSON: Bool
    private let format: TimeFormat
    private let print: (String) -> Void
    private let wait: (Int) -> Bool

    /// - Parameters:
    ///   - print: Takes one line or several, without the last newline.
    ///   - wait: Waits that many milliseconds; true: detach.
    package init(
        address: JobManagerAddress, job: String, asJSON: Bool, format: TimeFormat = .local, print: @escaping (String) -> Void,
        wait: @escaping (Int) -> Bool
    ) {
        self.address = address
        self.job = job
        self.asJSON = asJSON
        self.format = format
        self.print = print
        self.wait = wait
    }

    package func follow(_ first: JobManagerClient) -> End {
        var client: JobManagerClient? = first
        var watch = JobWatch()
        var lostAt: Int64?
        let started = monotonicMilliseconds()
        while true {
            if client == nil { client = try? JobManagerClient(address) }
            switch client.map({ view($0) }) ?? .unreachable("it cannot be reached") {
            case .info(let info):
                if lostAt != nil { note("the JobManager is back") }
                lostAt = nil
                for event in watch.observe(info) { print(asJSON ? event.json(job: job).line : event.text(format)) }
                if info.summary.state.isTerminal { return .terminal(info.summary.state) }
            case .gone(let reason):
                return .lost(reason)
            case .unreachable(let reason):
                client = nil
                let since = lostAt ?? monotonicMilliseconds()
                if lostAt == nil { note("the JobManager at \(address.text) is lost (\(reason)); trying again") }
                lostAt = since
                guard monotonicMilliseconds() - since < Self.patienceMs else {
                    return .lost("the JobManager at \(address.text) did not come back within \(Self.patienceMs / 1_000) s")
                }
            }
            // Short at first: a small job starts, and may end, within a second.
            if wait(monotonicMilliseconds() - started < 5_000 ? 50 : 250) { return .detached }
        }
    }

    private enum View {
        case info(WireJobInfo)
        case gone(String)
        case unreachable(String)
    }

    private func view(_ client: JobManagerClient) -> View {
        do {
            return .info(try client.info(job: job))
        } catch {
            guard case .refused(let code) = error.kind, code != .unavailable, code != .overloaded else { return .unreachable(error.message) }
            return .gone(error.message)
        }
    }

    private func note(_ text: String) {
        if !asJSON { print("\(format.time(wallClockMilliseconds()))  \(text)") }
    }
}
