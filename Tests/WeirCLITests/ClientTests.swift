import Foundation
import Logging
import SwiftProtobuf
import Synchronization
import Testing
import WeirTransport
import WeirWire

@testable import WeirCLI

/// A JobManager that takes uploads and submissions and plays views of a job.
private final class StubJobManager: Sendable {
    struct State {
        var uploaded: [UInt8] = []
        var chunks: [UInt64] = []
        var stuck = false
        var submissions: [WireSubmitJob] = []
        var dropSubmissions = 0
        var refusal: (WireErrorReply.Code, String, String)?
        var views: [WireJobInfo] = []
    }

    let state = Mutex(State())
    let loop: EventLoop
    private let server = Mutex<RPCServer?>(nil)

    var address: JobManagerAddress { JobManagerAddress(host: "127.0.0.1", port: server.withLock { $0?.port ?? 0 }) }

    init() throws {
        loop = try EventLoop(name: "stub-jm")
        let made = try RPCServer(
            loop: loop, options: RPCServerOptions(identity: RPCIdentity(role: .jobManager, clusterID: "weir")), handlers: handlers(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        server.withLock { $0 = made }
    }

    private func handlers() -> RPCHandlers {
        var handlers = RPCHandlers()
        handlers.onRequest(.beginUpload) { [weak self] (_, request: WireBeginUpload, reply: RPCReply<WireUploadOffset>) in
            self?.state.withLock { reply.send(Self.offset($0, total: request.totalBytes)) }
        }
        handlers.onRequest(.uploadChunk) { [weak self] (_, request: WireUploadChunk, reply: RPCReply<WireUploadOffset>) in
            self?.state.withLock { state in
                state.chunks.append(request.offset)
                if !state.stuck, request.offset == UInt64(state.uploaded.count) { state.uploaded += request.bytes }
                reply.send(Self.offset(state, total: 3 << 20))
            }
        }
        handlers.onRequest(.submitJob) { [weak self] (connection, request: WireSubmitJob, reply: RPCReply<WireSubmitJobReply>) in
            self?.state.withLock { state in
                state.submissions.append(request)
                if let (code, message, hint) = state.refusal { return reply.fail(code, message, hint: hint) }
                state.dropSubmissions -= 1
                guard state.dropSubmissions < 0 else { return connection.close() }
                var answer = WireSubmitJobReply()
                answer.job = "0123456789abcdef0123456789abcdef"
                reply.send(answer)
            }
        }
        handlers.onRequest(.getJob) { [weak self] (_, _: WireGetJob, reply: RPCReply<WireJobInfo>) in
            self?.state.withLock { state in
                guard let view = state.views.first else { return reply.fail(.notFound, "there is no such job") }
                if state.views.count > 1 { state.views.removeFirst() }
                reply.send(view)
            }
        }
        return handlers
    }

    private static func offset(_ state: State, total: UInt64) -> WireUploadOffset {
        var reply = WireUploadOffset()
        reply.offset = UInt64(state.uploaded.count)
        reply.complete = reply.offset == total
        return reply
    }

    func stop() {
        server.withLock { $0 }?.stop()
        loop.shutDown()
    }
}

@Suite struct ClientTests {
    private func file() throws -> String {
        let path = NSTemporaryDirectory() + "weir-upload-" + UUID().uuidString
        try Data((0..<(3 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 7) }).write(to: URL(filePath: path))
        return path
    }

    @Test func uploadGoesOnWhereItEnded() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        let path = try file()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let content = [UInt8](try Data(contentsOf: URL(filePath: path)))
        let artifact = try ArtifactFile(path: path)
        #expect(artifact.bytes == 3 << 20)
        jobManager.state.withLock { $0.uploaded = Array(content[..<1_500_000]) }
        let client = try JobManagerClient(jobManager.address)
        var seen: [UInt64] = []
        #expect(try ArtifactUpload.run(artifact, to: client) { done, _ in seen.append(done) } == UInt64(content.count - 1_500_000))
        #expect(jobManager.state.withLock { $0.uploaded } == content)
        #expect(jobManager.state.withLock { $0.chunks } == [1_500_000, 1_500_000 + (1 << 20)])
        #expect(seen.first == 1_500_000 && seen.last == 3 << 20)
        #expect(try ArtifactUpload.run(artifact, to: client) { _, _ in } == 0)
    }

    @Test func uploadThatDoesNotAdvanceEnds() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        jobManager.state.withLock { $0.stuck = true }
        let path = try file()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let artifact = try ArtifactFile(path: path)
        let client = try JobManagerClient(jobManager.address)
        #expect(throws: CommandFailure("cannot upload \(path): the JobManager took nothing at byte 0")) {
            try ArtifactUpload.run(artifact, to: client) { _, _ in }
        }
    }

    @Test func submissionIsRetriedUnderOneRequestID() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        jobManager.state.withLock { $0.dropSubmissions = 2 }
        let artifact = try ArtifactFile(path: "/proc/self/exe")
        let (job, _) = try JobSubmission.submit(WireSubmitJob(), artifact: artifact, client: JobManagerClient(jobManager.address))
        #expect(job == "0123456789abcdef0123456789abcdef")
        let submissions = jobManager.state.withLock { $0.submissions }
        #expect(submissions.count == 3)
        #expect(Set(submissions.map(\.requestID)).count == 1)
        #expect(submissions.last?.artifactSha256 == artifact.sha256 && artifact.sha256.count == 64)
    }

    @Test func refusalShowsMessageAndHint() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        jobManager.state.withLock { $0.refusal = (.conflict, "a job named X runs already", "cancel it, or use --name") }
        let client = try JobManagerClient(jobManager.address)
        let artifact = try ArtifactFile(path: "/proc/self/exe")
        #expect(throws: CommandFailure("cannot submit the job: a job named X runs already", hint: "cancel it, or use --name")) {
            try JobSubmission.submit(WireSubmitJob(), artifact: artifact, client: client)
        }
    }

    @Test func unreachableJobManagerIsSaidWithItsAddress() throws {
        let jobManager = try StubJobManager()
        let address = jobManager.address
        jobManager.stop()
        #expect {
            _ = try JobManagerClient(address)
        } throws: { error in
            let text = "\(error)"
            return text.hasPrefix("error: cannot reach the JobManager at \(address.text): ") && text.contains("hint: start one with `jobmanager`")
        }
    }

    @Test func anotherClusterIsSaid() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        var address = jobManager.address
        address.clusterID = "other"
        #expect {
            _ = try JobManagerClient(address)
        } throws: { "\($0)".contains("refused the connection: this is cluster weir, not other") }
    }

    @Test func attachmentFollowsToTheEnd() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        var change = WireStateChange()
        change.timestampMs = 1_000
        change.state = .running
        change.epoch = 1
        var running = WireJobInfo()
        running.history = [change]
        running.summary.state = .running
        var finished = running
        change.state = .finished
        change.timestampMs = 2_000
        finished.history.append(change)
        finished.summary.state = .finished
        jobManager.state.withLock { $0.views = [running, running, finished] }
        var lines: [String] = []
        let attachment = JobAttachment(
            address: jobManager.address, job: "j", asJSON: false, format: .utc, print: { lines.append($0) }, wait: { _ in false })
        #expect(attachment.follow(try JobManagerClient(jobManager.address)) == .terminal(.finished))
        #expect(lines == ["00:00:01.000  RUNNING", "00:00:02.000  FINISHED"])
    }

    @Test func interruptDetaches() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        var running = WireJobInfo()
        running.summary.state = .running
        jobManager.state.withLock { $0.views = [running] }
        let attachment = JobAttachment(address: jobManager.address, job: "j", asJSON: true, print: { _ in }, wait: { _ in true })
        #expect(attachment.follow(try JobManagerClient(jobManager.address)) == .detached)
    }

    @Test func vanishedJobEndsTheAttachment() throws {
        let jobManager = try StubJobManager()
        defer { jobManager.stop() }
        let attachment = JobAttachment(address: jobManager.address, job: "j", asJSON: true, print: { _ in }, wait: { _ in false })
        #expect(attachment.follow(try JobManagerClient(jobManager.address)) == .lost("there is no such job"))
    }

    @Test func progressBarIsDrawn() {
        #expect(ProgressBar.line(label: "uploading", done: 1 << 20, total: 4 << 20, width: 8) == "uploading [##------] 25 % of 4.0 MiB")
        #expect(ProgressBar.line(label: "x", done: 0, total: 0, width: 2) == "x [##] 100 % of 0 B")
    }
}
