internal import SwiftProtobuf
internal import WeirBase
package import WeirWire

/// Lets a job's binary describe itself: it runs once, defines its graph, and writes the submission to descriptor 3.
package struct JobDescription {
    package static let timeout = Duration.seconds(30)

    private let runner: any ProgramRunner

    package init(runner: any ProgramRunner) {
        self.runner = runner
    }

    /// The submission that the binary fills in: name, graph, its hash, options, parallelism.
    package func describe(binary: String, arguments: [String], parallelism: Int?) throws(CommandFailure) -> WireSubmitJob {
        var environment = ["WEIR_MODE": "describe", "WEIR_OUTPUT_FD": "3"]
        if let parallelism { environment["WEIR_PARALLELISM"] = String(parallelism) }
        let outcome = try runner.run(
            ProgramInvocation(path: binary, arguments: arguments, environment: environment, timeout: Self.timeout))
        return try Self.submission(from: outcome, binary: binary)
    }

    static func submission(from outcome: ProgramOutcome, binary: String) throws(CommandFailure) -> WireSubmitJob {
        switch outcome.end {
        case .exited(0): break
        case .exited(64):
            throw CommandFailure(
                "\(binary) refused its arguments", detail: outcome.standardError, hint: "see `\(binary) --help`; its arguments follow --")
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
