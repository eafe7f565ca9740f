/// Something outside the job that only one of its operators may use, such as a prefix of transactional ids.
public struct ResourceClaim: Hashable, Sendable {
    /// What it is, as it stands in a sentence: `the transactional id prefix`.
    public var kind: String
    /// Which one: two operators that claim the same kind and name are in conflict.
    public var name: String
    /// What happens if two share it. An error refuses the job when its graph is built; a warning is told at submission.
    public var severity: PreflightFinding.Severity
    /// Why it must not be shared, and what to do: `each sink needs its own`.
    public var advice: String

    public init(kind: String, name: String, severity: PreflightFinding.Severity = .error, advice: String) {
        self.kind = kind
        self.name = name
        self.severity = severity
        self.advice = advice
    }
}

/// What a connector found out when the job was submitted.
public struct PreflightFinding: Hashable, Sendable {
    /// Errors refuse the submission; warnings are printed.
    public enum Severity: String, Sendable { case warning, error }

    /// Whether the job may be submitted all the same.
    public var severity: Severity
    /// What is the matter and what to do about it, one sentence.
    public var message: String

    public init(_ severity: Severity, _ message: String) {
        self.severity = severity
        self.message = message
    }
}

/// What a connector is told for its checks at submission.
public struct PreflightSetup: Sendable {
    /// The operator's uid in the job graph.
    public let uid: String
    /// The operator's name, as people see it.
    public let name: String
    /// Subtasks of the operator.
    public let parallelism: Int
    /// The job's options by their names in the configuration, as far as they are known where the job is submitted: what the job sets, and
    /// over it what the command line says.
    public let settings: [String: String]

    package init(uid: String, name: String, parallelism: Int, settings: [String: String]) {
        self.uid = uid
        self.name = name
        self.parallelism = parallelism
        self.settings = settings
    }
}

/// The checks of all connectors of a job.
package struct Preflight: Sendable {
    struct Check: Sendable {
        let title: String
        let uid: String
        let name: String
        let parallelism: Int
        let run: @Sendable (PreflightSetup) -> [PreflightFinding]
    }

    let checks: [Check]
    let shared: [PreflightFinding]
    let jobSettings: [String: String]

    /// Asks every connector. Blocks for as long as they do, one after the other.
    ///
    /// - Parameter settings: Options that win over those of the job itself.
    /// - Returns: Findings with the operator they are about, errors first.
    package func run(settings: [String: String]) -> [PreflightFinding] {
        let merged = jobSettings.merging(settings) { _, new in new }
        let found = checks.flatMap { check in
            check.run(PreflightSetup(uid: check.uid, name: check.name, parallelism: check.parallelism, settings: merged)).map {
                PreflightFinding($0.severity, "\(check.title): \($0.message)")
            }
        }
        let all = shared + found
        return all.filter { $0.severity == .error } + all.filter { $0.severity == .warning }
    }
}

/// Two claims to one resource.
struct ClaimConflict {
    let claim: ResourceClaim
    let first: NodeDescription
    let second: NodeDescription

    var message: String {
        "\(second.title) at \(second.place) shares \(claim.kind) \"\(claim.name)\" with \(first.title) at \(first.place): \(claim.advice)"
    }

    /// In the order of the nodes.
    static func all(in nodes: [NodeDescription]) -> [ClaimConflict] {
        var conflicts: [ClaimConflict] = []
        var owners: [String: NodeDescription] = [:]
        for node in nodes {
            for claim in node.claims() {
                let key = "\(claim.kind)\u{0}\(claim.name)"
                if let owner = owners[key] {
                    conflicts.append(ClaimConflict(claim: claim, first: owner, second: node))
                } else {
                    owners[key] = node
                }
            }
        }
        return conflicts
    }
}
