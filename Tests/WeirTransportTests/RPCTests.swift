import Glibc
import SwiftProtobuf
import Synchronization
import Testing
import WeirBase
import WeirWire

@testable import WeirTransport

@Suite struct RPCTests {
    /// Answers LIST_JOBS at once, GET_JOB never, CANCEL_JOB with an error.
    private func handlers(stuck: Journal<RPCReply<WireJobInfo>> = Journal()) -> RPCHandlers {
        var handlers = RPCHandlers()
        handlers.onRequest(.listJobs) { (_, _: WireListJobs, reply: RPCReply<WireJobList>) in
            reply.send(.with { $0.jobs = [.with { $0.name = "wordcount" }] })
        }
        handlers.onRequest(.getJob) { (_, _: WireGetJob, reply: RPCReply<WireJobInfo>) in stuck.append(reply) }
        handlers.onRequest(.cancelJob) { (_, request: WireCancelJob, reply: RPCReply<WireEmpty>) in
            reply.fail(.notFound, "no job \(request.job)", hint: "weir list shows them")
        }
        handlers.onRequest(.registerTaskManager, from: [.taskManager]) {
            (_, _: WireRegisterTaskManager, reply: RPCReply<WireRegisterTaskManagerReply>) in reply.send(.init())
        }
        handlers.onRequest(.getCluster) { (_, _: WireGetCluster, _: RPCReply<WireClusterInfo>) in }
        return handlers
    }

    private func failure(_ body: () async throws(RPCFailure) -> Void) async -> RPCFailure? {
        do throws(RPCFailure) {
            try await body()
            return nil
        } catch {
            return error
        }
    }

    @Test func aRequestIsAnswered() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client().connected()
        #expect(connection.peer.clusterID == "c1")
        #expect(connection.peer.role == .jobManager)
        let jobs = try await connection.request(.listJobs, WireListJobs(), deadline: .seconds(5), as: WireJobList.self)
        #expect(jobs.jobs.map(\.name) == ["wordcount"])
    }

    @Test func anErrorReplyCarriesCodeMessageAndHint() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client().connected()
        let failure = await failure { () throws(RPCFailure) in
            let _: WireEmpty = try await connection.request(.cancelJob, WireCancelJob.with { $0.job = "x" }, deadline: .seconds(5))
        }
        #expect(failure == RPCFailure(.refused(.notFound), "no job x", hint: "weir list shows them"))
    }

    @Test func anUnknownKindIsAnsweredAndTheConnectionStaysOpen() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client().connected()
        let failure = await failure { () throws(RPCFailure) in
            _ = try await connection.request(.UNRECOGNIZED(9_999), payload: [1, 2], deadline: .seconds(5))
        }
        #expect(failure?.kind == .refused(.unknownKind))
        let jobs: WireJobList = try await connection.request(.listJobs, WireListJobs(), deadline: .seconds(5))
        #expect(jobs.jobs.count == 1)
    }

    @Test func aPayloadThatDoesNotParseIsAnsweredAsMalformed() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client().connected()
        let failure = await failure { () throws(RPCFailure) in
            _ = try await connection.request(.cancelJob, payload: [0xFF, 0xFF, 0xFF], deadline: .seconds(5))
        }
        #expect(failure?.kind == .refused(.malformed))
    }

    @Test func aRoleMayOnlySendItsOwnKinds() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client(role: .client).connected()
        let failure = await failure { () throws(RPCFailure) in
            let _: WireRegisterTaskManagerReply = try await connection.request(
                .registerTaskManager, WireRegisterTaskManager(), deadline: .seconds(5))
        }
        #expect(failure?.kind == .refused(.notPermitted))
    }

    @Test func aHandlerThatLetsGoOfItsReplyAnswersWithAnError() async throws {
        let server = try TestServer(handlers: handlers())
        let connection = try await server.client().connected()
        let failure = await failure { () throws(RPCFailure) in
            let _: WireClusterInfo = try await connection.request(.getCluster, WireGetCluster(), deadline: .seconds(5))
        }
        #expect(failure?.kind == .refused(.internal))
    }

    @Test func aRequestWithoutAReplyFailsAtItsDeadlineAndALateReplyIsDropped() async throws {
        let stuck = Journal<RPCReply<WireJobInfo>>()
        let server = try TestServer(handlers: handlers(stuck: stuck))
        let connection = try await server.client().connected()
        let start = ContinuousClock().now
        let failure = await failure { () throws(RPCFailure) in
            let _: WireJobInfo = try await connection.request(.getJob, WireGetJob(), deadline: .milliseconds(80))
        }
        #expect(failure?.kind == .deadlineExceeded)
        #expect(ContinuousClock().now - start >= .milliseconds(80))
        stuck.values[0].send(.init())
        let jobs: WireJobList = try await connection.request(.listJobs, WireListJobs(), deadline: .seconds(5))
        #expect(jobs.jobs.count == 1)
    }

    @Test func bothSidesSendRequestsAndOneWaysInOrder() async throws {
        let seen = Journal<UInt32>()
        let server = try TestServer(handlers: handlers())
        var own = RPCHandlers()
        own.onRequest(.deploy) { (_, deploy: WireDeploy, reply: RPCReply<WireEmpty>) in
            seen.append(deploy.epoch)
            reply.send(.init())
        }
        own.onOneWay(.cancelTasks) { (_, cancel: WireCancelTasks) in seen.append(cancel.epoch) }
        _ = try await server.client(role: .worker, handlers: own).connected()
        #expect(await eventually { server.opened.values.count == 1 })
        let toClient = server.opened.values[0]
        #expect(toClient.peer.role == .worker)
        for epoch in 0..<500 as Range<UInt32> { toClient.sendOneWay(.cancelTasks, WireCancelTasks.with { $0.epoch = epoch }) }
        let _: WireEmpty = try await toClient.request(.deploy, WireDeploy.with { $0.epoch = 500 }, deadline: .seconds(5))
        #expect(seen.values == Array(0...500))
    }

    @Test func largePayloadsGoThroughAndTooLargeOnesCloseTheConnection() async throws {
        var echo = RPCHandlers()
        echo.onRequest(.uploadChunk) { (_, chunk: WireUploadChunk, reply: RPCReply<WireUploadChunk>) in reply.send(chunk) }
        let server = try TestServer(handlers: echo) { $0.limits.payloadBytesMax = 4 << 20 }
        let connection = try await server.client().connected()
        let chunk = WireUploadChunk.with { $0.bytes = .init(repeating: 7, count: 3 << 20) }
        let back: WireUploadChunk = try await connection.request(.uploadChunk, chunk, deadline: .seconds(20))
        #expect(back == chunk)
        let failure = await failure { () throws(RPCFailure) in
            _ = try await connection.request(.uploadChunk, payload: [UInt8](repeating: 0, count: 5 << 20), deadline: .seconds(20))
        }
        #expect(failure?.kind == .connectionLost)
        #expect(await eventually { server.log.values.contains { $0.contains("the limit is 4194304") } })
    }

    @Test func requestsBeyondTheInboundLimitAreRefusedAsOverloaded() async throws {
        let stuck = Journal<RPCReply<WireJobInfo>>()
        let server = try TestServer(handlers: handlers(stuck: stuck)) { $0.limits.inboundRequestsMax = 4 }
        let connection = try await server.client().connected()
        let results = Journal<RPCFailure.Kind>()
        for _ in 0..<5 {
            connection.send(.getJob, WireGetJob(), deadline: .seconds(10), as: WireJobInfo.self) { result in
                if case .failure(let failure) = result { results.append(failure.kind) }
            }
        }
        #expect(await eventually { results.values == [.refused(.overloaded)] })
        #expect(stuck.values.count == 4)
    }

    @Test func aPeerThatDoesNotReadIsCutOffAtTheOutboundLimit() async throws {
        let server = try TestServer(handlers: handlers()) { $0.limits.outboundBytesMax = 1 << 20 }
        let raw = try RawSocket(port: server.server.port)
        let handshake: [UInt8] = try RPCHandshake.message(RPCIdentity(role: .worker)).serializedBytes()
        raw.write(Frame(type: .request, kind: 1, correlation: 0, payload: handshake).encoded())
        #expect(await eventually { server.opened.values.count == 1 })
        // The kernel's own buffers take a few MB before the queue grows.
        for _ in 0..<400 { server.opened.values[0].sendOneWay(.deploy, payload: [UInt8](repeating: 0, count: 64 << 10)) }
        #expect(await eventually { server.closed.values.map(\.kind) == [.overloaded] })
    }

    @Test func aClosedPeerIsNoticedAtOnceAndItsRequestsFail() async throws {
        let server = try TestServer(handlers: handlers())
        let events = Journal<RPCClient.Event>()
        let connection = try await server.client(events: events).connected()
        let results = Journal<RPCFailure.Kind>()
        connection.send(.getJob, WireGetJob(), deadline: .seconds(60), as: WireJobInfo.self) { result in
            if case .failure(let failure) = result { results.append(failure.kind) }
        }
        #expect(await eventually { server.opened.values.count == 1 })
        server.opened.values[0].close()
        #expect(await eventually { results.values == [.connectionLost] })
        #expect(server.closed.values.count == 1)
        #expect(await eventually { events.values.count == 2 })
    }

    @Test func aKilledProcessIsNoticedAtOnce() async throws {
        let server = try TestServer(handlers: handlers())
        // A child that holds the connection and does nothing, as a stopped worker would; then SIGKILL.
        let raw = try RawSocket(port: server.server.port)
        let handshake: [UInt8] = try RPCHandshake.message(RPCIdentity(role: .worker)).serializedBytes()
        raw.write(Frame(type: .request, kind: 1, correlation: 0, payload: handshake).encoded())
        #expect(await eventually { server.opened.values.count == 1 })
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, raw.descriptor, 0)
        var process = pid_t()
        let argument = strdup("sleep")
        let seconds = strdup("60")
        defer {
            free(argument)
            free(seconds)
        }
        try #require(posix_spawn(&process, "/bin/sleep", &actions, nil, [argument, seconds, nil], nil) == 0)
        Glibc.close(raw.descriptor)
        try await Task.sleep(for: .milliseconds(50))
        #expect(server.closed.values.isEmpty)
        let start = ContinuousClock().now
        kill(process, SIGKILL)
        var status: Int32 = 0
        waitpid(process, &status, 0)
        #expect(await eventually { server.closed.values.count == 1 })
        // No heartbeat could have told it so soon.
        #expect(ContinuousClock().now - start < .seconds(5))
    }

    @Test func aClientComesBackAfterALossAndGivesUpWhenToldTo() async throws {
        let server = try TestServer(handlers: handlers())
        let events = Journal<RPCClient.Event>()
        let client = server.client(events: events) {
            $0.reconnect = Backoff(initial: .milliseconds(5), maximum: .milliseconds(20))
        }
        _ = try await client.connected()
        for round in 1...3 {
            #expect(await eventually { server.opened.values.count == round })
            server.opened.values[round - 1].close()
        }
        #expect(await eventually { server.opened.values.count == 4 })
        client.close()
        #expect(await eventually { server.closed.values.count == 4 })
        #expect(client.connection == nil)
    }

    @Test func aClientKeepsTryingUntilTheServerIsThere() async throws {
        let loop = try EventLoop(name: "client")
        defer { loop.shutDown() }
        // A port that was free a moment ago.
        let port = try { () -> UInt16 in try TestServer().server.port }()
        var options = RPCClientOptions(host: "localhost", port: port, identity: RPCIdentity(role: .client), seed: 1)
        options.reconnect = Backoff(initial: .milliseconds(5), maximum: .milliseconds(20))
        let events = Journal<RPCClient.Event>()
        let client = RPCClient(loop: loop, options: options, logger: quietLogger()) { events.append($0) }
        client.start()
        #expect(await eventually { events.values.count >= 3 })
        let server = try TestServer(handlers: handlers()) { $0.port = port }
        let connection = try await client.connected()
        let jobs: WireJobList = try await connection.request(.listJobs, WireListJobs(), deadline: .seconds(5))
        #expect(jobs.jobs.count == 1)
        client.close()
        _ = server
    }

    @Test func withoutReconnectionAMissingServerIsAnErrorThatNamesIt() async throws {
        let loop = try EventLoop(name: "client")
        defer { loop.shutDown() }
        let port = try { () -> UInt16 in try TestServer().server.port }()
        var options = RPCClientOptions(host: "127.0.0.1", port: port, identity: RPCIdentity(role: .client), seed: 1)
        options.reconnect = nil
        let client = RPCClient(loop: loop, options: options, logger: quietLogger())
        let failure = await failure { () throws(RPCFailure) in _ = try await client.connected() }
        #expect(failure?.kind == .notConnected)
        #expect(failure?.message == "cannot connect to 127.0.0.1:\(port): Connection refused")
    }

    @Test func aClientThatWaitsForItsNextAttemptIsToldWhenTheLoopEnds() async throws {
        let loop = try EventLoop(name: "client")
        let port = try { () -> UInt16 in try TestServer().server.port }()
        var options = RPCClientOptions(host: "127.0.0.1", port: port, identity: RPCIdentity(role: .client), seed: 1)
        options.reconnect = Backoff(initial: .seconds(60))
        let events = Journal<RPCClient.Event>()
        let client = RPCClient(loop: loop, options: options, logger: quietLogger()) { events.append($0) }
        async let outcome = failure { () throws(RPCFailure) in _ = try await client.connected() }
        #expect(await eventually { events.values.count == 1 })
        loop.shutDown()
        #expect(await outcome?.kind == .closed)
    }

    @Test func requestsAfterTheLoopEndedFailInsteadOfHanging() async throws {
        let server = try TestServer(handlers: handlers())
        let loop = try EventLoop(name: "client")
        var options = RPCClientOptions(
            host: "127.0.0.1", port: server.server.port, identity: RPCIdentity(role: .client), seed: 1)
        options.reconnect = nil
        let connection = try await RPCClient(loop: loop, options: options, logger: quietLogger()).connected()
        loop.shutDown()
        let failure = await failure { () throws(RPCFailure) in
            let _: WireJobList = try await connection.request(.listJobs, WireListJobs(), deadline: .seconds(5))
        }
        #expect(failure?.kind == .closed)
    }
}
