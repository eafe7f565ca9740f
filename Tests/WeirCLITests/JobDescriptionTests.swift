import Foundation
import SwiftProtobuf
import Testing
import WeirCLI
import WeirWire

/// Answers every run with the same outcome.
private final class StubRunner: ProgramRunner {
    var outcome: ProgramOutcome
    var invocations: [ProgramInvocation] = []

    init(_ end: ProgramOutcome.End, output: [UInt8] = [], standardError: String = "") {
        outcome = ProgramOutcome(end: end, output: output, standardError: standardError)
    }

    func run(_ invocation: ProgramInvocation) throws(CommandFailure) -> ProgramOutcome {
        invocations.append(invocation)
        return outcome
    }
}

@Suite struct JobDescriptionTests {
    private func failure(_ runner: StubRunner) -> CommandFailure? {
        do {
            _ = try JobDescription(runner: runner).describe(binary: "/bin/job", arguments: [], parallelism: nil)
            return nil
        } catch { return error }
    }

    private func described() throws -> [UInt8] {
        var submission = WireSubmitJob()
        submission.name = "Job"
        submission.graph = Data([1, 2, 3])
        submission.graphHash = 7
        submission.options = ["execution.checkpointing.interval": "1s", "restart-strategy.type": "none"]
        return try submission.serializedBytes()
    }

    @Test func submissionIsTakenAndCompleted() throws {
        let runner = StubRunner(.exited(0), output: try described())
        let plan = JobSubmission(
            binary: "/bin/job", arguments: ["--x", "1"], name: "Other", parallelism: 4, restorePath: "/cp/chk-3",
            options: ["restart-strategy.type": "fixed-delay"])
        let submission = try plan.describe(runner: runner)
        #expect(submission.name == "Other" && submission.graphHash == 7 && submission.parallelism == 4)
        #expect(submission.arguments == ["--x", "1"] && submission.restorePath == "/cp/chk-3")
        #expect(submission.options == ["execution.checkpointing.interval": "1s", "restart-strategy.type": "fixed-delay"])
        let invocation = try #require(runner.invocations.first)
        #expect(invocation.environment == ["WEIR_MODE": "describe", "WEIR_OUTPUT_FD": "3", "WEIR_PARALLELISM": "4"])
        #expect(invocation.arguments == ["--x", "1"])
    }

    @Test func theConnectorsChecksAreAskedForWithTheOptionsAndTheirWarningsPassedOn() throws {
        let runner = StubRunner(
            .exited(0), output: try described(), standardError: "noise\nwarning: the group \"g\" has members\nwarning: old broker\n")
        var warnings: [String] = []
        _ = try JobSubmission(binary: "/bin/job", options: ["kafka.property.sasl.password": "a\"b\n"])
            .describe(runner: runner, isChecked: true) { warnings.append($0) }
        #expect(warnings == ["warning: the group \"g\" has members", "warning: old broker"])
        let environment = try #require(runner.invocations.first?.environment)
        #expect(environment["WEIR_PREFLIGHT"] == "1")
        let options = try JSONDecoder().decode([String: String].self, from: Data(try #require(environment["WEIR_JOB_OPTIONS"]).utf8))
        #expect(options == ["kafka.property.sasl.password": "a\"b\n"])
        let refused = failure(StubRunner(.exited(66), standardError: "error: the Kafka topic \"a\" does not exist"))
        #expect(refused?.message == "the job cannot run as things are")
        #expect(refused?.hint.contains("--skip-preflight") == true)
    }

    @Test func relativePathsBecomeAbsolute() throws {
        let runner = StubRunner(.exited(0), output: try described())
        let submission = try JobSubmission(binary: "job", restorePath: "chk-3").describe(runner: runner)
        #expect(submission.restorePath == FileManager.default.currentDirectoryPath + "/chk-3")
        #expect(runner.invocations.first?.path == "./job")
    }

    @Test func failedDefineShowsItsWholeStderr() {
        #expect(
            failure(StubRunner(.exited(1), standardError: "Error: no topic\nat line 3\n"))?.description == """
                error: the job could not be defined: /bin/job ended with exit code 1
                  Error: no topic
                  at line 3
                hint: its define(in:) failed; nothing was submitted
                """)
    }

    @Test func crashIsNamedBySignal() {
        #expect(
            failure(StubRunner(.signaled(4), standardError: "Fatal error\n"))?.message
                == "the job could not be defined: /bin/job was ended by SIGILL: a Swift runtime check failed")
    }

    @Test func wrongArgumentsPointToTheHelp() {
        #expect(failure(StubRunner(.exited(64)))?.message == "/bin/job refused its arguments")
    }

    @Test func otherEndsAreSaid() {
        #expect(failure(StubRunner(.timedOut))?.message == "the job could not be defined: /bin/job did not end within 30 s")
        #expect(failure(StubRunner(.exited(0)))?.message == "/bin/job ended without describing a job")
        #expect(failure(StubRunner(.exited(0), output: [0xFF]))?.message == "/bin/job wrote a description that cannot be read")
        #expect(failure(StubRunner(.wroteTooMuch))?.message.contains("more than 16 MiB") == true)
    }
}

@Suite struct PosixProgramRunnerTests {
    private func run(_ script: String, timeout: Duration = .seconds(10), environment: [String: String] = [:]) throws -> ProgramOutcome {
        try PosixProgramRunner().run(
            ProgramInvocation(path: "/bin/sh", arguments: ["-c", script], environment: environment, timeout: timeout))
    }

    @Test func descriptorThreeIsReadAndTheRestIsKeptApart() throws {
        let outcome = try run("echo to stdout; echo to stderr >&2; printf $GREETING >&3", environment: ["GREETING": "hello"])
        #expect(outcome.end == .exited(0))
        #expect(outcome.output == Array("hello".utf8))
        #expect(outcome.standardError == "to stdout\nto stderr\n")
    }

    @Test func endsAreTold() throws {
        #expect(try run("exit 5").end == .exited(5))
        #expect(try run("kill -SEGV $$").end == .signaled(11))
    }

    @Test func largeOutputDoesNotBlock() throws {
        let outcome = try run("head -c 3000000 /dev/zero >&3; head -c 2000000 /dev/zero >&2")
        #expect(outcome.end == .exited(0))
        #expect(outcome.output.count == 3_000_000)
        #expect(outcome.standardError.utf8.count == PosixProgramRunner.standardErrorBytesMax)
    }

    @Test func tooLongEndsByForce() throws {
        let started = ContinuousClock.now
        #expect(try run("exec sleep 100", timeout: .milliseconds(200)).end == .timedOut)
        #expect(try run("exec >&- 2>&- 3>&-; exec sleep 100", timeout: .milliseconds(200)).end == .timedOut)
        #expect(ContinuousClock.now - started < .seconds(5))
    }

    @Test func childThatStaysDoesNotHoldTheCommand() throws {
        let started = ContinuousClock.now
        #expect(try run("sleep 30 & exit 0").end == .exited(0))
        #expect(ContinuousClock.now - started < .seconds(5))
    }

    @Test func missingProgramIsSaid() {
        #expect(throws: CommandFailure("cannot run /no/such/program: No such file or directory")) {
            try PosixProgramRunner().run(ProgramInvocation(path: "/no/such/program", arguments: [], environment: [:], timeout: .seconds(1)))
        }
    }
}
