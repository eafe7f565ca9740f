import Foundation
import Logging
import Synchronization
import SwiftProtobuf
import Testing
import WeirBase
import WeirConfiguration
import WeirTaskManager
import WeirTransport
import WeirWire

/// A JobManager that registers everyone and serves one artifact.
private final class StubJobManager: Sendable {
    struct State {
        var registrations: [WireRegisterTaskManager] = []
        var heartbeats = 0
        var fetches: [UInt64] = []
        var connection: RPCConnection?
        var stopWorkers: [String] = []
    }

    let state = Mutex(State())
    let exits = Inbox<WireWorkerExited>()
    let registered = Inbox<WireRegisterTaskManager>()
    let loop: EventLoop
    let server: RPCServer

    init(artifact: [UInt8] = [], port: UInt16 = 0, heartbeatTimeoutMs: UInt32 = 2_000) throws {
        loop = try EventLoop(name: "stub-jm")
        var handlers = RPCHandlers()
        let link = Link()
        handlers.onRequest(.registerTaskManager) {
            (connection, request: WireRegisterTaskManager, reply: RPCReply<WireRegisterTaskManagerReply>) in
            var answer = WireRegisterTaskManagerReply()
            answer.clusterID = "weir"
            answer.heartbeatIntervalMs = 20
            answer.heartbeatTimeoutMs = heartbeatTimeoutMs
            link.manager?.state.withLock { state in
                state.registrations.append(request)
                state.connection = connection
                answer.stopWorkers = state.stopWorkers
            }
            reply.send(answer)
            link.manager?.registered.put(request)
        }
        handlers.onRequest(.heartbeat) { (_, _: WireHeartbeat, reply: RPCReply<WireHeartbeatReply>) in
            link.manager?.state.withLock { $0.heartbeats += 1 }
            reply.send(WireHeartbeatReply())
        }
        handlers.onRequest(.fetchArtifact) { (_, request: WireFetchArtifact, reply: RPCReply<WireArtifactChunk>) in
            link.manager?.state.withLock { $0.fetches.append(request.offset) }
            var chunk = WireArtifactChunk()
            chunk.bytes = Data(artifact.dropFirst(Int(request.offset)).prefix(Int(request.bytesMax)))
            chunk.totalBytes = UInt64(artifact.count)
            reply.send(chunk)
        }
        handlers.onOneWay(.workerExited) { (_, message: WireWorkerExited) in link.manager?.exits.put(message) }
        var options = RPCServerOptions(identity: RPCIdentity(role: .jobManager, clusterID: "weir"))
        options.port = port
        server = try RPCServer(loop: loop, options: options, handlers: handlers, logger: quiet)
        link.set(self)
    }

    private final class Link: Sendable {
        private let value = Mutex<StubJobManager?>(nil)
        var manager: StubJobManager? { value.withLock { $0 } }
        func set(_ manager: StubJobManager) { value.withLock { $0 = manager } }
    }

    func connection() throws -> RPCConnection { try #require(state.withLock { $0.connection }) }

    func stop() {
        server.stop()
        loop.shutDown()
    }
}

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

@Suite(.serialized) struct TaskManagerTests {
    private let directory: ScratchDirectory

    init() throws { directory = try ScratchDirectory() }

    private func options(port: UInt16) -> TaskManagerOptions {
        TaskManagerOptions(
            resourceID: "tm-1", slots: 2, jobManagerPort: port, heartbeatTimeout: .seconds(10),
            artifactDirectory: directory.path + "/artifacts", logDirectory: directory.path + "/log")
    }

    private func startRequest(_ artifact: [UInt8], worker: String = "w1", arguments: [String] = []) -> WireStartWorker {
        var request = WireStartWorker()
        request.worker = worker
        request.job = "0123456789abcdef0123456789abcdef"
        request.artifactSha256 = sha256(artifact)
        request.artifactBytes = UInt64(artifact.count)
        request.arguments = arguments
        request.slots = 2
        request.environment = ["EXTRA": "yes", "WEIR_MODE": "never"]
        return request
    }

    private func stop(_ manager: TaskManager) {
        let stopped = Inbox<Bool>()
        manager.stop(grace: .zero) { stopped.put(true) }
        #expect(stopped.take() == true)
        manager.shutDown()
    }

    /// Larger than one piece: a script, and then padding that the shell never reads.
    private func script(_ body: String) -> [UInt8] {
        Array("#!/bin/sh\n\(body)\nexit 0\n".utf8) + [UInt8](repeating: UInt8(ascii: "#"), count: 3 << 20)
    }

    @Test func workerIsFetchedStartedAndReported() async throws {
        let artifact = script("env | grep -E '^(WEIR_|EXTRA)' | sort; echo \"$@\"; echo oops >&2; exit 3")
        let jobManager = try StubJobManager(artifact: artifact)
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        let registration = try #require(jobManager.registered.take())
        #expect(registration.taskManager == "tm-1" && registration.slots == 2 && registration.runningWorkers.isEmpty)
        let reply: WireStartWorkerReply = try await jobManager.connection().request(
            .startWorker, startRequest(artifact, arguments: ["--a", "b c"]), deadline: .seconds(10))
        #expect(reply.pid > 0)
        #expect(jobManager.state.withLock { $0.fetches } == [0, 1 << 20, 2 << 20, 3 << 20])
        let exit = try #require(jobManager.exits.take())
        #expect(exit.exitCode == 3 && exit.worker == "w1" && exit.taskManager == "tm-1" && !exit.requested)
        #expect(exit.stderrTail == ["oops"])
        #expect(exit.logPath == reply.logPath)

        var request = WireReadLog()
        request.worker = "w1.out"
        let log: WireLogChunk = try await jobManager.connection().request(.readLog, request, deadline: .seconds(10))
        let lines = String(decoding: log.bytes, as: UTF8.self).split(separator: "\n").map { String($0) }
        #expect(
            lines == [
                "EXTRA=yes", "WEIR_BIND_HOST=127.0.0.1", "WEIR_CLUSTER_ID=weir", "WEIR_DATA_HOST=127.0.0.1",
                "WEIR_JOBMANAGER_HOST=127.0.0.1", "WEIR_JOBMANAGER_PORT=\(jobManager.server.port)",
                "WEIR_JOB_ID=0123456789abcdef0123456789abcdef", "WEIR_MODE=worker", "WEIR_PIN_SLOTS=false", "WEIR_SLOTS=2",
                "WEIR_TASKMANAGER_ID=tm-1", "WEIR_WORKER_ID=w1", "--a b c",
            ])
        request.worker = "w1"
        request.fromEnd = true
        request.offset = 3
        let tail: WireLogChunk = try await jobManager.connection().request(.readLog, request, deadline: .seconds(10))
        #expect(String(decoding: tail.bytes, as: UTF8.self) == "ps\n" && tail.offset == 2 && tail.totalBytes == 5)
        stop(manager)
        jobManager.stop()
    }

    @Test func stoppedWorkerIsReportedAsRequested() async throws {
        let artifact = script("exec sleep 1000")
        let jobManager = try StubJobManager(artifact: artifact)
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        _ = jobManager.registered.take()
        let request = startRequest(artifact)
        let first: WireStartWorkerReply = try await jobManager.connection().request(.startWorker, request, deadline: .seconds(10))
        let again: WireStartWorkerReply = try await jobManager.connection().request(.startWorker, request, deadline: .seconds(10))
        #expect(first == again)
        var stop = WireStopWorker()
        stop.worker = "w1"
        stop.graceMs = 5_000
        let _: WireEmpty = try await jobManager.connection().request(.stopWorker, stop, deadline: .seconds(10))
        let exit = try #require(jobManager.exits.take())
        #expect(exit.signal == 15 && exit.requested)
        let _: WireEmpty = try await jobManager.connection().request(.stopWorker, stop, deadline: .seconds(10))
        self.stop(manager)
        jobManager.stop()
    }

    @Test func aDamagedArtifactIsAnErrorReplyAndNoExit() async throws {
        let artifact = script("exit 0")
        let jobManager = try StubJobManager(artifact: artifact)
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        _ = jobManager.registered.take()
        var request = startRequest(artifact)
        request.artifactSha256 = sha256([1])
        await #expect {
            let _: WireStartWorkerReply = try await jobManager.connection().request(.startWorker, request, deadline: .seconds(10))
        } throws: { error in
            "\(error)".contains("TaskManager tm-1 cannot start worker w1: cannot fetch the job's binary")
                && "\(error)".contains("came with other content")
        }
        #expect(jobManager.exits.isEmpty)
        stop(manager)
        jobManager.stop()
    }

    @Test func namesThatArePathsAreRefused() async throws {
        let jobManager = try StubJobManager()
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        _ = jobManager.registered.take()
        await #expect(throws: RPCFailure.self) {
            let request = startRequest([1], worker: "../x")
            let _: WireStartWorkerReply = try await jobManager.connection().request(.startWorker, request, deadline: .seconds(10))
        }
        stop(manager)
        jobManager.stop()
    }

    @Test func heartbeatsGoAtThePaceOfTheJobManager() throws {
        let jobManager = try StubJobManager()
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        _ = jobManager.registered.take()
        // The TaskManager's own pace would be one in 5 s.
        let start = ContinuousClock.now
        while jobManager.state.withLock({ $0.heartbeats }) < 5, ContinuousClock.now - start < .seconds(10) { usleep(1_000) }
        #expect(jobManager.state.withLock { $0.heartbeats } >= 5)
        stop(manager)
        jobManager.stop()
    }

    @Test func reconnectionNamesTheWorkersThatRun() async throws {
        let artifact = script("exec sleep 1000")
        let jobManager = try StubJobManager(artifact: artifact)
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        let first = try #require(jobManager.registered.take())
        let started: WireStartWorkerReply = try await jobManager.connection().request(
            .startWorker, startRequest(artifact), deadline: .seconds(10))
        try jobManager.connection().close()
        let second = try #require(jobManager.registered.take())
        #expect(second.incarnation == first.incarnation)
        #expect(second.runningWorkers.map(\.worker) == ["w1"])
        #expect(second.runningWorkers.map(\.pid) == [started.pid])
        // At the next one it is not wanted any more.
        jobManager.state.withLock { $0.stopWorkers = ["w1"] }
        try jobManager.connection().close()
        let exit = try #require(jobManager.exits.take())
        #expect(exit.signal == 9 && exit.requested)
        stop(manager)
        jobManager.stop()
    }

    @Test func workersEndWhenTheJobManagerStaysAway() async throws {
        let artifact = script("exec sleep 1000")
        let jobManager = try StubJobManager(artifact: artifact, heartbeatTimeoutMs: 200)
        let manager = try TaskManager(options: options(port: jobManager.server.port), logger: quiet)
        manager.start()
        _ = jobManager.registered.take()
        let started: WireStartWorkerReply = try await jobManager.connection().request(
            .startWorker, startRequest(artifact), deadline: .seconds(10))
        jobManager.stop()
        var alive = true
        for _ in 0..<500 where alive {
            usleep(10_000)
            alive = kill(pid_t(started.pid), 0) == 0
        }
        #expect(!alive)
        stop(manager)
    }

    @Test func exitsAreReportedAfterTheReconnection() async throws {
        let artifact = script("sleep 0.3; exit 9")
        let first = try StubJobManager(artifact: artifact)
        let port = first.server.port
        let manager = try TaskManager(options: options(port: port), logger: quiet)
        manager.start()
        _ = first.registered.take()
        let started: WireStartWorkerReply = try await first.connection().request(
            .startWorker, startRequest(artifact), deadline: .seconds(10))
        first.stop()
        let end = ContinuousClock.now + .seconds(10)
        while kill(pid_t(started.pid), 0) == 0, ContinuousClock.now < end { usleep(1_000) }
        let second = try StubJobManager(artifact: artifact, port: port)
        #expect(second.registered.take()?.runningWorkers.isEmpty == true)
        #expect(second.exits.take()?.exitCode == 9)
        stop(manager)
        second.stop()
    }

    @Test func anotherClusterIsSaidAndNotTriedAgain() throws {
        let jobManager = try StubJobManager()
        var options = options(port: jobManager.server.port)
        options.clusterID = "other"
        let events = Inbox<TaskManagerEvent>()
        let manager = try TaskManager(options: options, logger: quiet) { events.put($0) }
        manager.start()
        guard case .refused(let reason, _)? = events.take() else {
            Issue.record("not refused")
            return
        }
        #expect(reason.contains("this is cluster weir, not other"))
        stop(manager)
        jobManager.stop()
    }
}

@Suite struct TaskManagerOptionsTests {
    private func configuration(_ settings: [String]) throws -> Configuration {
        try ConfigurationLoader.load(file: nil, environment: [:], definitions: settings)
    }

    @Test func directoriesFollowTheName() throws {
        let options = try TaskManagerOptions(
            configuration: configuration([
                "taskmanager.resource-id=tm-7", "io.tmp.dirs=/scratch", "taskmanager.numberOfTaskSlots=4", "taskmanager.slots.pinned=true",
            ]))
        #expect(options.artifactDirectory == "/scratch/weir-taskmanager-tm-7/artifacts")
        #expect(options.logDirectory == "/scratch/weir-taskmanager-tm-7/log")
        #expect(options.slots == 4 && options.pinsSlots && options.dataHost == "127.0.0.1")
    }

    @Test func defaultNameHasTheProcess() throws {
        let name = try TaskManagerOptions(configuration: configuration([])).resourceID
        #expect(name.hasPrefix("tm-") && name.hasSuffix("-\(getpid())"))
    }

    @Test func everyProblemIsReported() throws {
        let bad = try configuration(["taskmanager.resource-id=../x", "jobmanager.rpc.port=0", "heartbeat.timeout=1s"])
        #expect {
            _ = try TaskManagerOptions(configuration: bad)
        } throws: { ($0 as? ConfigurationError)?.problems.count == 3 }
    }
}
