import Foundation
import Synchronization
import Testing
import WeirTaskManager
import WeirTransport

/// Serves one content, and misbehaves as told.
private final class StubSource: ArtifactSource {
    struct State {
        var content: [UInt8]
        var requests: [UInt64] = []
        /// Taken from the front before each answer.
        var failures: [ArtifactFailure] = []
        var delayMs: UInt32 = 0
        var claimedTotal: UInt64?
        var pieceMax = 100
    }

    let state: Mutex<State>

    init(_ content: [UInt8]) { state = Mutex(State(content: content)) }

    var requests: [UInt64] { state.withLock { $0.requests } }

    func fetch(
        sha256: String, offset: UInt64, bytesMax: UInt32, _ completion: @escaping @Sendable (Result<ArtifactPiece, ArtifactFailure>) -> Void
    ) {
        let (result, delay) = state.withLock { state -> (Result<ArtifactPiece, ArtifactFailure>, UInt32) in
            state.requests.append(offset)
            if !state.failures.isEmpty { return (.failure(state.failures.removeFirst()), state.delayMs) }
            let bytes = Array(state.content.dropFirst(Int(offset)).prefix(min(Int(bytesMax), state.pieceMax)))
            return (.success(ArtifactPiece(bytes: bytes, totalBytes: state.claimedTotal ?? UInt64(state.content.count))), state.delayMs)
        }
        guard delay > 0 else { return completion(result) }
        Thread.detachNewThread {
            usleep(delay * 1_000)
            completion(result)
        }
    }
}

@Suite final class ArtifactCacheTests {
    private let directory: ScratchDirectory
    private let loop: EventLoop
    private let content = (0..<1_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }

    init() throws {
        directory = try ScratchDirectory()
        loop = try EventLoop(name: "test-work")
    }

    deinit { loop.shutDown() }

    private func cache(_ source: StubSource) -> ArtifactCache {
        ArtifactCache(directory: directory.path + "/artifacts", source: source, loop: loop, retryDelay: .milliseconds(1))
    }

    private func fetch(_ cache: ArtifactCache, sha: String? = nil, bytes: Int? = nil) -> Result<String, ArtifactFailure>? {
        let results = Inbox<Result<String, ArtifactFailure>>()
        cache.artifact(sha256: sha ?? sha256(content), bytes: UInt64(bytes ?? content.count)) { results.put($0) }
        return results.take()
    }

    private var finalPath: String { directory.path + "/artifacts/" + sha256(content) }

    @Test func contentIsFetchedInPiecesVerifiedAndExecutable() throws {
        let source = StubSource(content)
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect(source.requests == stride(from: 0, to: 1_000, by: 100).map { UInt64($0) })
        #expect([UInt8](try Data(contentsOf: URL(filePath: finalPath))) == content)
        let mode = try FileManager.default.attributesOfItem(atPath: finalPath)[.posixPermissions] as? Int
        #expect(mode == 0o755)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/artifacts") == [sha256(content)])
    }

    @Test func presentContentIsNotFetchedAgain() {
        let source = StubSource(content)
        let first = cache(source)
        _ = fetch(first)
        let count = source.requests.count
        #expect(fetch(first) == .success(finalPath))
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect(source.requests.count == count)
    }

    @Test func requestsAtTheSameTimeShareOneFetch() {
        let source = StubSource(content)
        source.state.withLock { $0.delayMs = 2 }
        let cache = cache(source)
        let results = Inbox<Result<String, ArtifactFailure>>()
        for _ in 0..<5 { cache.artifact(sha256: sha256(content), bytes: 1_000) { results.put($0) } }
        for _ in 0..<5 { #expect(results.take() == .success(finalPath)) }
        #expect(source.requests.count == 10)
    }

    @Test func brokenFetchGoesOnWhereItWas() {
        let source = StubSource(content)
        source.state.withLock { $0.failures = [ArtifactFailure("lost", isTransient: true), ArtifactFailure("lost", isTransient: true)] }
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect(source.requests.prefix(4) == [0, 0, 0, 100])
    }

    @Test func laterFetchResumesWhatAnEarlierOneLeft() throws {
        let source = StubSource(content)
        try FileManager.default.createDirectory(atPath: directory.path + "/artifacts", withIntermediateDirectories: true)
        try Data(content[..<350]).write(to: URL(filePath: finalPath + ".part"))
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect(source.requests.first == 350)
    }

    @Test func resumedFetchWithOtherContentStartsAgain() throws {
        let source = StubSource(content)
        try FileManager.default.createDirectory(atPath: directory.path + "/artifacts", withIntermediateDirectories: true)
        try Data(repeating: 9, count: 350).write(to: URL(filePath: finalPath + ".part"))
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect(source.requests.contains(0))
    }

    @Test func otherContentIsRefusedAndForgotten() throws {
        var damaged = content
        damaged[500] ^= 1
        let result = fetch(cache(StubSource(damaged)))
        guard case .failure(let failure)? = result else {
            Issue.record("accepted damaged content")
            return
        }
        #expect(failure.message.contains("came with other content"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/artifacts").isEmpty)
    }

    @Test func damagedFileOnDiskIsFetchedAgain() throws {
        let source = StubSource(content)
        try FileManager.default.createDirectory(atPath: directory.path + "/artifacts", withIntermediateDirectories: true)
        try Data(repeating: 1, count: 1_000).write(to: URL(filePath: finalPath))
        #expect(fetch(cache(source)) == .success(finalPath))
        #expect([UInt8](try Data(contentsOf: URL(filePath: finalPath))) == content)
    }

    @Test func permanentFailureEndsTheFetchAndTheNextOneTriesAgain() {
        let source = StubSource(content)
        source.state.withLock { $0.failures = [ArtifactFailure("there is no such artifact")] }
        let cache = cache(source)
        #expect(fetch(cache) == .failure(ArtifactFailure("there is no such artifact")))
        #expect(fetch(cache) == .success(finalPath))
    }

    @Test func transientFailuresEndAtTheLimit() {
        let source = StubSource(content)
        source.state.withLock { $0.failures = Array(repeating: ArtifactFailure("lost", isTransient: true), count: 100) }
        #expect(fetch(cache(source)) == .failure(ArtifactFailure("lost", isTransient: true)))
        #expect(source.requests.count == ArtifactCache.attemptsMax)
    }

    @Test func nonsenseIsRefused() {
        let source = StubSource(content)
        let cache = cache(source)
        for (sha, bytes) in [("../../etc/passwd", 10), (sha256(content), 0), (sha256(content).uppercased(), 1_000)] {
            guard case .failure? = fetch(cache, sha: sha, bytes: bytes) else {
                Issue.record("accepted \(sha), \(bytes)")
                continue
            }
        }
        #expect(source.requests.isEmpty)
        source.state.withLock { $0.claimedTotal = 999 }
        #expect(fetch(cache) == .failure(ArtifactFailure("artifact \(sha256(content)) has 999 bytes, not 1000")))
    }

    @Test func cacheKeepsABoundedNumber() throws {
        let count = ArtifactCache.artifactsMax + 3
        let source = StubSource([])
        let cache = cache(source)
        for index in 0..<count {
            let content = [UInt8(index), 1, 2]
            source.state.withLock { $0.content = content }
            guard case .success? = fetch(cache, sha: sha256(content), bytes: 3) else {
                Issue.record("artifact \(index) was not fetched")
                return
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path + "/artifacts").count == ArtifactCache.artifactsMax)
    }
}
