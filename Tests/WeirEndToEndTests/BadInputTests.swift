import Foundation
import Testing
import WeirBase
import WeirCLI
import WeirTestKit
import WeirWire

/// What goes wrong for people, and what the command line says about it: what, where, and what to do.
@Suite(.serialized) struct BadInputTests {
    private static let withoutRestart = ["-D", "restart-strategy.type=none"]
    /// A Swift trap is SIGILL on x86 and SIGTRAP on ARM.
    private static let trap = "was ended by SIG(ILL|TRAP): a Swift runtime check failed"

    /// A JobManager and a TaskManager of two slots.
    private func cluster(_ settings: [String: String] = [:], slots: Int = 2) throws -> LocalCluster {
        let cluster = try LocalCluster(settings: settings)
        try cluster.startJobManager()
        if slots > 0 { try cluster.startTaskManager("tm-1", slots: slots) }
        return cluster
    }

    /// Runs the command, which must fail with 1 unless said, and gives its words.
    private func failing(_ cluster: LocalCluster, _ arguments: [String], code: Int32 = 1) throws -> String {
        let run = try cluster.weir(arguments)
        let words = run.output.joined(separator: "\n")
        #expect(run.code == code, "\(arguments): \(words)")
        return words
    }

    private func testJob(_ cluster: LocalCluster, _ arguments: String..., name: String = "bad", options: [String] = withoutRestart) -> [String] {
        ["run"] + options + ["--name", name, cluster.binaries + "/weir-testjob", "--", "--output", cluster.directory + "/" + name] + arguments
    }

    private func contains(_ words: String, _ pattern: String) -> Bool { words.range(of: pattern, options: .regularExpression) != nil }

    // MARK: The binary

    @Test func aBinaryThatCannotRunHere() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        let path = cluster.directory + "/job"
        func words(_ bytes: Data) throws -> String {
            try bytes.write(to: URL(fileURLWithPath: path))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
            return try failing(cluster, ["run", path])
        }
        let hint = "\nhint: build the job with `swift build -c release` and give the path of its program, e.g. .build/release/MyJob"
        #expect(try words(Data("hello".utf8)) == "error: \(path) is not a Linux program (no ELF header)" + hint)
        #expect(try words(Data("#!/bin/sh\nexit 0\n".utf8)) == "error: \(path) is a script (it starts with #!), not the job's program" + hint)
        var program = try Data(contentsOf: URL(fileURLWithPath: cluster.binaries + "/weir-testjob")).prefix(4_096)
        // The machine number of the ELF header: to that of the other architecture.
        program[18] = program[18] == 62 ? 183 : 62
        #expect(contains(try words(program), "^error: \(path) is built for (arm64|x86_64); this machine and its cluster are (x86_64|arm64)\nhint: "))
        #expect(try words(program.prefix(10)) == "error: \(path) is cut short: its ELF header has only 10 bytes" + hint)
    }

    @Test func aProgramThatIsNoJob() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        let words = try failing(cluster, ["run", "/bin/true"])
        #expect(words == "error: /bin/true ended without describing a job\nhint: is it a Weir job, a program with `@main struct …: StreamJob`?")
    }

    @Test func aJobThatCrashesInDefine() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        let words = try failing(cluster, testJob(cluster, "--crash-in-define"))
        #expect(contains(words, "^error: the job could not be defined: .*/weir-testjob \(Self.trap)\n"), "\(words)")
        #expect(words.contains("Fatal error: this job was told to crash in define"), "\(words)")
        #expect(words.contains("hint: its define(in:) crashed; nothing was submitted"), "\(words)")
        #expect(!words.contains("Registers"), "no backtrace below the message: \(words)")
    }

    @Test func aJobThatCrashesInDefineOnTheWorkerOnly() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        let words = try failing(cluster, testJob(cluster, "--crash-in-worker"))
        #expect(contains(words, "user error: worker tm-1-[0-9a-f]+ on tm-1 \(Self.trap)"), "\(words)")
        #expect(words.contains("cause: weir_testjob/Misbehaviour.swift"), "\(words)")
        #expect(words.contains("Fatal error: this job was told to crash in define"), "\(words)")
        #expect(contains(words, "FAILED: .*not restarted: restart-strategy.type is none"), "\(words)")
    }

    @Test func aJobThatDefinesAnotherGraphOnTheWorker() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        let words = try failing(cluster, testJob(cluster, "--other-graph-in-worker", options: []))
        #expect(
            words.contains("configuration error: the job's binary defines another graph on the worker than it did when it was submitted"), "\(words)")
        #expect(contains(words, "cause: graph hash [0-9a-f]+ on worker tm-1-[0-9a-f]+, [0-9a-f]+ submitted; the graph must depend on "), "\(words)")
        #expect(words.contains("not restarted: running again cannot help"), "\(words)")
    }

    @Test func aTrapInUserCodeIsToldInWords() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        let trapFile = cluster.directory + "/trap"
        try Data().write(to: URL(fileURLWithPath: trapFile))
        let words = try failing(cluster, testJob(cluster, "--trap-file", trapFile))
        #expect(contains(words, "user error: worker tm-1-[0-9a-f]+ on tm-1 \(Self.trap)"), "\(words)")
        let info = try cluster.weir(["info", "bad"]).output.joined(separator: "\n")
        #expect(contains(info, "user error: worker tm-1-[0-9a-f]+ on tm-1 \(Self.trap)"), "\(info)")
        #expect(contains(info, "cause: .*Fatal error: a measurement that cannot be"), "\(info)")
        #expect(info.contains("last lines of its stderr:"), "\(info)")
        let logs = try cluster.weir(["logs", "bad"]).output
        #expect(logs.first?.contains("Fatal error: a measurement that cannot be") == true, "\(logs)")
    }

    // MARK: The world around the job

    @Test func noKafkaAndNoTopic() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        // Port 1 is nobody's. Told before anything is submitted, and by the task where the look ahead is left out.
        let deployed = Self.withoutRestart + ["--skip-preflight"]
        let unreachable = testJob(cluster, "--bootstrap", "127.0.0.1:1")
        let advice = "check that the broker runs and that bootstrap.servers and the security properties are right"
        for (arguments, place) in [
            (unreachable, "error: source \"kafka(measurements)\""),
            (testJob(cluster, "--bootstrap", "127.0.0.1:1", options: deployed), "at: kafka(measurements) (1/1) on tm-1"),
        ] {
            let words = try failing(cluster, arguments)
            #expect(words.contains("no Kafka broker at 127.0.0.1:1 answered within 2 s"), "\(words)")
            #expect(words.contains(advice), "\(words)")
            #expect(words.contains(place), "\(words)")
            #expect(words.contains("Connection refused"), "\(words)")
        }
        #expect(try cluster.weir(["list", "--all"]).output.filter { $0.contains("bad") }.count == 1)

        let bootstrap = try cluster.startBroker(topics: "other:1", missing: "measurements")
        for (options, place) in [
            (Self.withoutRestart, "error: source \"kafka(measurements)\""), (deployed, "at: kafka(measurements) (1/1) on tm-1"),
        ] {
            let words = try failing(cluster, testJob(cluster, "--bootstrap", bootstrap, name: "no-topic", options: options))
            #expect(words.contains("topic \"measurements\""), "\(words)")
            #expect(words.contains(place), "\(words)")
            #expect(words.contains("create"), "\(words)")
        }
    }

    @Test func noSlots() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        let submitted = try cluster.weir(testJob(cluster, options: ["-d", "-p", "3"]))
        #expect(submitted.code == 0, "\(submitted.output)")
        let waiting = "needs 3 slots, 2 are free"
        _ = try cluster.wait(for: "bad", "waiting for slots") { $0.summary.state == .waitingForResources }
        #expect(
            try cluster.weir(["info", "bad"]).output.contains(
                "state        WAITING_FOR_RESOURCES: \(waiting): start another taskmanager, or run the job with a lower parallelism"))
        #expect(try cluster.weir(["list"]).output.contains { $0.contains(waiting) })
        try cluster.startTaskManager("tm-2", slots: 1)
        _ = try cluster.wait(for: "bad", "FINISHED") { $0.summary.state == .finished }
        // A worker that is no longer needed ends without a word about it.
        try cluster.wait("seen its workers end") { $0.taskManagers.allSatisfy(\.workers.isEmpty) }
        #expect(try cluster.weir(["logs", "bad"]).output.isEmpty)
    }

    @Test func twoJobsOfOneName() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        #expect(try cluster.weir(testJob(cluster, options: ["-d"])).code == 0)
        let job = try cluster.wait(for: "bad", "there") { _ in true }.summary.job
        let words = try failing(cluster, testJob(cluster))
        #expect(
            words == """
                error: cannot submit the job: a job named "bad" runs already: \(job)
                hint: cancel it (weir cancel \(job)) or submit under another name (weir run --name NAME …)
                """)
    }

    // MARK: The disk

    /// The sink's first file is a link to /dev/full, on which every write fails as it does on a full disk.
    @Test func aFullDiskUnderTheSink() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        #expect(try cluster.weir(testJob(cluster, options: Self.withoutRestart + ["-d"])).code == 0)
        let job = try cluster.wait(for: "bad", "waiting") { $0.summary.state == .waitingForResources }.summary.job
        let part = cluster.directory + "/bad/.part-0-0-\(job)-1.inprogress"
        try FileManager.default.createDirectory(atPath: cluster.directory + "/bad", withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: part, withDestinationPath: "/dev/full")
        try cluster.startTaskManager("tm-1", slots: 1)
        let end = try cluster.wait(for: "bad", "FAILED") { $0.summary.state.isTerminal }
        #expect(end.summary.state == .failed)
        let words = try cluster.weir(["info", "bad"]).output.joined(separator: "\n")
        #expect(words.contains("resource error: cannot write \"\(part)\" behind byte 0"), "\(words)")
        #expect(words.contains("at: lines(\(cluster.directory)/bad) (1/1) on tm-1"), "\(words)")
        #expect(words.contains("cause: No space left on device"), "\(words)")
    }

    /// First the JobManager's `_metadata`, then a worker's state file meets a full disk; the job restarts each time, and its output is exact.
    @Test func aFullDiskUnderTheCheckpoints() throws {
        let cluster = try cluster(["execution.checkpointing.interval": "200ms"], slots: 0)
        defer { cluster.stop() }
        let rows: UInt64 = 40_000
        let arguments = testJob(cluster, "--rows", "\(rows)", "--per-second", "10000", "--devices", "2000", options: ["-d"])
        #expect(try cluster.weir(arguments).code == 0)
        let job = try cluster.wait(for: "bad", "waiting") { $0.summary.state == .waitingForResources }.summary.job
        let directory = cluster.directory + "/jobmanager/checkpoints/" + job
        for file in ["chk-1/_metadata", "chk-2/1-0-2.state"] {
            let path = "\(directory)/\(file).tmp"
            try FileManager.default.createDirectory(
                atPath: String(path[..<(path.lastIndex(of: "/") ?? path.endIndex)]), withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/dev/full")
        }
        try cluster.startTaskManager("tm-1", slots: 1)
        let end = try cluster.wait(for: "bad", "FINISHED") { $0.summary.state.rawValue >= WireJobState.finished.rawValue }
        let info = try cluster.weir(["info", "bad"]).output.joined(separator: "\n")
        #expect(end.summary.state == .finished && end.summary.restarts == 2, "\(info)")
        #expect(info.contains("external error: checkpoint 1 failed, more than 0 in a row are not tolerated"), "\(info)")
        #expect(contains(info, "cause: its metadata could not be written: .*\(directory)/chk-1.*"), "\(info)")
        #expect(contains(info, "cause: task 1/0 declined: .*\(directory)/chk-2.*|cause: task .* declined"), "\(info)")
        #expect(info.contains("No space left on device"), "\(info)")
        try expectExact(cluster, rows: rows, devices: 2_000)
    }

    /// A limit on the size of files does what a full disk does.
    @Test func aFileAtItsLimit() throws {
        let cluster = try cluster()
        defer { cluster.stop() }
        let words = try failing(cluster, testJob(cluster, "--file-bytes-max", "1000"))
        let part = cluster.directory + "/bad/.part-0-0-[0-9a-f]+-1.inprogress"
        #expect(contains(words, "external error: cannot write \"\(part)\" behind byte 1000"), "\(words)")
        #expect(words.contains("cause: File too large"), "\(words)")
    }

    @Test func aDamagedCheckpointIsPassedOverForTheOneBefore() throws {
        let cluster = try cluster(["execution.checkpointing.interval": "300ms"])
        defer { cluster.stop() }
        let rows: UInt64 = 30_000
        let slow = cluster.directory + "/slow"
        let arguments = testJob(
            cluster, "--rows", "\(rows)", "--per-second", "10000", "--devices", "2000", "--slow-file", slow, options: ["-d"])
        #expect(try cluster.weir(arguments).code == 0)
        _ = try cluster.wait(for: "bad", "at its second checkpoint") { $0.checkpoints.completed >= 2 }
        // Now the next one takes long, so that the latest stays the latest.
        try Data().write(to: URL(fileURLWithPath: slow))
        let before = try cluster.wait(for: "bad", "in a checkpoint") { $0.checkpoints.inProgress > 0 }
        let latest = try #require(before.checkpoints.recent.last)
        let file = try #require(try FileManager.default.contentsOfDirectory(atPath: latest.path).first { $0.hasSuffix(".state") })
        var bytes = try Data(contentsOf: URL(fileURLWithPath: latest.path + "/" + file))
        bytes[bytes.count / 2] ^= 1
        try bytes.write(to: URL(fileURLWithPath: latest.path + "/" + file))
        try cluster.killWorkers(of: "tm-1")
        try FileManager.default.removeItem(atPath: slow)
        let end = try cluster.wait(for: "bad", "FINISHED") { $0.summary.state.rawValue >= WireJobState.finished.rawValue }
        let info = try cluster.weir(["info", "bad"]).output.joined(separator: "\n")
        #expect(end.summary.state == .finished, "\(info)")
        #expect(end.checkpoints.restoredFrom < latest.checkpoint, "\(info)")
        #expect(info.contains("external error: checkpoint \(latest.checkpoint) is damaged"), "\(info)")
        #expect(contains(info, "cause: .*\(file)"), "\(info)")
        try expectExact(cluster, rows: rows, devices: 2_000)
    }

    @Test func aCheckpointThatIsNotThereOrDamagedCannotBeStartedFrom() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        let path = cluster.directory + "/chk-7"
        let arguments = testJob(cluster, options: ["--from-checkpoint", path])
        let hint = "\nhint: name the directory of a savepoint or checkpoint; weir checkpoints JOB shows those of a job"
        let missing = try failing(cluster, arguments)
        #expect(missing.hasSuffix("error: cannot submit the job: the checkpoint file \(path)/_metadata cannot be used: missing" + hint), "\(missing)")
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data("damaged".utf8).write(to: URL(fileURLWithPath: path + "/_metadata"))
        let words = try failing(cluster, arguments)
        #expect(words.contains("error: cannot submit the job: the checkpoint file \(path)/_metadata cannot be used: "), "\(words)")
        #expect(words.hasSuffix(hint), "\(words)")
    }

    private func expectExact(_ cluster: LocalCluster, rows: UInt64, devices: Int) throws {
        let differences = try WindowDifferences(
            directory: cluster.directory + "/bad", expected: SeededRows(seed: 1, devices: devices).fold(count: rows))
        #expect(differences.problems.isEmpty, "\(differences.problems.prefix(5))")
    }

    // MARK: Words of the command line

    @Test func optionsThatCannotBeReadAreTold() throws {
        let job = try ChildProcess(
            name: "describe", executable: try LocalCluster.binaryDirectory() + "/WordCount", arguments: ["--input", "/dev/null", "--output", "/tmp"],
            environment: ["WEIR_MODE": "describe", "WEIR_OUTPUT_FD": "1", "WEIR_PREFLIGHT": "1", "WEIR_JOB_OPTIONS": "nonsense"])
        #expect(job.exitCode() == 66)
        #expect(job.output.contains { $0.hasPrefix("error: WEIR_JOB_OPTIONS is no JSON object of strings") }, "\(job.output)")
    }

    @Test func anUnknownKeyOfTheConfiguration() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        let file = cluster.directory + "/weir.yaml"
        try "execution: {checkpointing: {intervall: 1s}}\n".write(toFile: file, atomically: true, encoding: .utf8)
        let unknown = "unknown key execution.checkpointing.intervall; did you mean execution.checkpointing.interval?"
        for program in ["jobmanager", "taskmanager"] {
            let process = try ChildProcess(name: program, executable: cluster.binaries + "/" + program, arguments: ["--config", file])
            #expect(process.exitCode() == 64)
            #expect(process.output.last?.hasSuffix("configuration: \(file): \(unknown)") == true, "\(process.output)")
        }
        #expect(try failing(cluster, ["list", "--config", file], code: 64) == "error: configuration: \(file): \(unknown)")
        let submission = testJob(cluster, options: ["-D", "execution.checkpointing.intervall=1s"])
        #expect(try failing(cluster, submission, code: 64) == "error: configuration: -D: \(unknown)")
    }

    @Test func noJobManagerNoJobAndNoArguments() throws {
        let cluster = try cluster(slots: 0)
        defer { cluster.stop() }
        #expect(try failing(cluster, ["info", "nobody"]).hasPrefix("error: there is no job \"nobody\"\nhint: the JobManager knows no job"))
        #expect(try failing(cluster, ["run"], code: 64).contains("Missing expected argument '<binary>'"))
        let arguments = try failing(cluster, ["run", cluster.binaries + "/weir-testjob"])
        #expect(arguments.contains("refused its arguments") && arguments.contains("--output"), "\(arguments)")
        let unreachable = try failing(cluster, ["list", "--jobmanager", "127.0.0.1:1"])
        #expect(unreachable.hasPrefix("error: cannot reach the JobManager at 127.0.0.1:1: "), "\(unreachable)")
        #expect(unreachable.contains("hint: start one with `jobmanager`, or say where it is with --jobmanager HOST:PORT"), "\(unreachable)")
    }
}
