internal import WeirBase
package import WeirWire

/// Finds the job that a person means: by id, by name, or by the beginning of an id.
package enum JobResolution {
    /// - Parameter jobs: All that the JobManager knows, the ended ones included.
    /// - Throws: When there is none, with names close to it; when there are several, with their ids.
    package static func resolve(_ text: String, in jobs: [WireJobSummary]) throws(CommandFailure) -> WireJobSummary {
        let lower = text.lowercased()
        if let job = jobs.first(where: { $0.job == lower }) { return job }
        let named = jobs.filter { $0.name == text }
        if let job = try latest(of: named, called: "jobs are named \"\(text)\"") { return job }
        let begun = lower.isEmpty ? [] : jobs.filter { $0.job.hasPrefix(lower) }
        guard begun.count <= 1 else { throw ambiguous(begun, "jobs have an id that begins with \"\(text)\"") }
        if let job = begun.first { return job }
        throw CommandFailure("there is no job \"\(text)\"", hint: hint(for: text, in: jobs))
    }

    /// The one that has not ended, else the one submitted last.
    private static func latest(of jobs: [WireJobSummary], called what: String) throws(CommandFailure) -> WireJobSummary? {
        let live = jobs.filter { !$0.state.isTerminal }
        guard live.count <= 1 else { throw ambiguous(live, what) }
        return live.first ?? jobs.max { ($0.submittedMs, $0.job) < ($1.submittedMs, $1.job) }
    }

    private static func ambiguous(_ jobs: [WireJobSummary], _ what: String) -> CommandFailure {
        let shown = jobs.sorted { $0.submittedMs > $1.submittedMs }.prefix(10)
        let lines = shown.map { "\($0.job)  \($0.name)  \($0.state.word)" }
        return CommandFailure("\(jobs.count) \(what)", detail: lines.joined(separator: "\n"), hint: "give more digits of the id")
    }

    private static func hint(for text: String, in jobs: [WireJobSummary]) -> String {
        guard !jobs.isEmpty else { return "the JobManager knows no job; submit one with `weir run BINARY`" }
        let near = Set(jobs.map(\.name)).map { (name: $0, distance: editDistance(text.lowercased(), $0.lowercased())) }
            .filter { $0.distance <= max(2, text.count / 2) }
            .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }
            .prefix(3).map(\.name)
        return near.isEmpty ? "`weir list --all` shows all jobs" : "did you mean \(near.joined(separator: ", "))?"
    }
}
