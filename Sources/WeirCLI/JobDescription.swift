internal import SwiftProtobuf
internal import WeirBase
package import WeirWire

/// Lets a job's binary describe itself: it runs once, defines its graph, and writes the submission to descriptor 3.
package struct JobDescription {
    package static let timeout = Duration.seconds(30)
    /// With the connectors' checks, which wait for other systems.
    package static let checkedTimeout = Duration.seconds(120)
    /// What a line that the program writes about a doubtful finding begins with.
    package static let warningPrefix = "warning: "

    private let runner: any ProgramRunner

    package init(runner: any ProgramRunner) {
        self.runner = runner
    }

    /// The submission that the binary fills in: name, graph, its hash, options, parallelism.
    ///
    /// - Parameters:
    ///   - options: What the connectors' checks are told besides what the job sets; nil leaves the checks out.
    ///   - warn: Is called with each doubtful finding of the checks.
    package func describe(
        binary: String, arguments: [String], parallelism: Int?, checkedWith options: [String: String]? = nil, warn: (String) -> Void = { _ in }
    ) throws(CommandFailure) -> WireSubmitJob {
        var environment = ["WEIR_MODE": "describe", "WEIR_OUTPUT_FD": "3"]
        if let parallelism { environment["WEIR_PARALLELISM"] = String(parallelism) }
        if let options {
            environment["WEIR_PREFLIGHT"] = "1"
            environment["WEIR_JOB_OPTIONS"] = JSONValue.map(options).line
        }
        let outcome = try runner.run(
            ProgramInvocation(
                path: binary, arguments: arguments, environment: environment, timeout: options == nil ? Self.timeout : Self.checkedTimeout))
        let submission = try Self.submission(from: outcome, binary: binary)
        for line in outcome.standardError.split(separator: "\n") where line.hasPrefix(Self.warningPrefix) { warn(String(line)) }
        return submission
    }

    static func submission(from outcome: ProgramOutcome, binary: String) throws(CommandFailure) -> WireSubmitJob {
        switch outcome.end {
        case .exited(0): break
        case .exited(64):
            throw CommandFailure(
                "\(binary) refused its arguments", detail: outcome.standardError, hint: "see `\(binary) --help`; its arguments follow --")
        case .exited(66):
            throw CommandFailure(
                "the job cannot run as things are", detail: outcome.standardError,
                hint: "nothing was submitted; --skip-preflight leaves these checks out")
        case .exited(let code):
            throw CommandFailure(
                "the job could not be defined: \(binary) ended with exit code \(code)", detail: outcome.standardError,
                hint: "its define(in:) failed; nothing was submitted")
        case .signaled(let number):
            throw CommandFailure(
                "the job could not be defined: \(binary) was ended by \(signalInWords(number))", detail: outcome.standardError,
                hint: "its define(in:) crashed; nothing was submitted. SWIFT_BACKTRACE=enable=yes in the environment shows where")
        case .timedOut:
            throw CommandFailure(
                "the job could not be defined: \(binary) did not end within \(timeout.components.seconds) s", detail: outcome.standardError,
                hint: "define(in:) only builds the graph: it must not read data or wait for other systems")
        case .wroteTooMuch:
            throw CommandFailure(
                "the job could not be defined: \(binary) wrote more than \(PosixProgramRunner.outputBytesMax >> 20) MiB of description",
                hint: "is it a Weir job?")
        }
        guard !outcome.output.isEmpty else {
            throw CommandFailure(
                "\(binary) ended without describing a job", detail: outcome.standardError,
                hint: "is it a Weir job, a program with `@main struct …: StreamJob`?")
        }
        guard let submission = try? WireSubmitJob(serializedBytes: outcome.output) else {
            throw CommandFailure("\(binary) wrote a description that cannot be read", hint: "was it built with another version of Weir?")
        }
        guard !submission.graph.isEmpty else { throw CommandFailure("\(binary) describes a job without any operator") }
        return submission
    }
}
