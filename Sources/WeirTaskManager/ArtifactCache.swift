internal import Glibc
internal import WeirDigest
package import WeirTransport

/// One piece of an artifact.
package struct ArtifactPiece: Sendable {
    /// Empty at the end.
    package var bytes: [UInt8]
    package var totalBytes: UInt64

    package init(bytes: [UInt8], totalBytes: UInt64) {
        self.bytes = bytes
        self.totalBytes = totalBytes
    }
}

/// Why an artifact is not here.
package struct ArtifactFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package var message: String
    /// The source may answer the same question later, e.g. after a reconnection.
    package var isTransient: Bool

    package init(_ message: String, isTransient: Bool = false) {
        self.message = message
        self.isTransient = isTransient
    }

    package var description: String { message }
}

/// Where artifacts come from: the JobManager.
package protocol ArtifactSource: Sendable {
    /// - Parameter completion: Called once, from any thread.
    func fetch(
        sha256: String, offset: UInt64, bytesMax: UInt32, _ completion: @escaping @Sendable (Result<ArtifactPiece, ArtifactFailure>) -> Void)
}

/// Job binaries by their SHA-256, in a directory of their own: fetched once, verified, then never changed.
///
/// All of its state belongs to the thread of `loop`, which it blocks while it writes and hashes: never the loop of a connection.
package final class ArtifactCache: @unchecked Sendable {
    // @unchecked: `fetches`, `verified` are touched on the loop's thread alone.
    package typealias Completion = @Sendable (Result<String, ArtifactFailure>) -> Void

    package static let pieceBytes: UInt32 = 1 << 20
    /// Larger than any binary: a wrong number ends here.
    package static let artifactBytesMax: UInt64 = 4 << 30
    /// Tries of one piece before the fetch fails.
    package static let attemptsMax = 10
    /// Artifacts kept; the longest unused goes first. A worker whose binary is deleted runs on.
    package static let artifactsMax = 16

    private let directory: String
    private let source: any ArtifactSource
    private let loop: EventLoop
    private let retryDelay: Duration
    private var fetches: [String: Fetch] = [:]
    /// Hashes checked by this process, the latest used last.
    private var verified: [String] = []

    private final class Fetch: @unchecked Sendable {
        // @unchecked: belongs to the loop's thread, as the cache does.
        let sha256: String
        let bytes: UInt64
        let partPath: String
        private(set) var descriptor: Int32
        var digest = SHA256()
        var offset: UInt64 = 0
        var resumed = false
        var attempts = 0
        var waiting: [Completion] = []

        init(sha256: String, bytes: UInt64, partPath: String, descriptor: Int32) {
            self.sha256 = sha256
            self.bytes = bytes
            self.partPath = partPath
            self.descriptor = descriptor
        }

        deinit { closeFile() }

        func closeFile() {
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }

        func restart() -> Bool {
            digest = SHA256()
            offset = 0
            resumed = false
            return ftruncate(descriptor, 0) == 0 && lseek(descriptor, 0, SEEK_SET) == 0
        }

        func takeDigest() -> String? {
            var taken = SHA256()
            swap(&taken, &digest)
            return taken.hexadecimal()
        }
    }

    package init(directory: String, source: any ArtifactSource, loop: EventLoop, retryDelay: Duration = .milliseconds(200)) {
        self.directory = directory
        self.source = source
        self.loop = loop
        self.retryDelay = retryDelay
    }

    /// Gives the path of the verified, executable artifact. Requests for one that is on its way share the fetch.
    ///
    /// - Parameter completion: Called once, on the loop's thread.
    package func artifact(sha256: String, bytes: UInt64, _ completion: @escaping Completion) {
        loop.perform { [self] in
            guard SHA256.isHash(sha256) else { return completion(.failure(ArtifactFailure("\"\(sha256)\" is not a SHA-256"))) }
            guard bytes > 0, bytes <= Self.artifactBytesMax else {
                return completion(.failure(ArtifactFailure("artifact \(sha256) is said to have \(bytes) bytes")))
            }
            if let fetch = fetches[sha256] { return fetch.waiting.append(completion) }
            if isPresent(sha256: sha256, bytes: bytes) { return completion(.success(path(of: sha256))) }
            start(sha256: sha256, bytes: bytes, completion)
        }
    }

    /// Deletes everything. Workers that run are not disturbed.
    package func removeAll() {
        for sha256 in verified { unlink(path(of: sha256)) }
        for sha256 in fetches.keys { unlink(path(of: sha256) + ".part") }
        verified = []
        rmdir(directory)
    }

    private func path(of sha256: String) -> String { directory + "/" + sha256 }

    private func isPresent(sha256: String, bytes: UInt64) -> Bool {
        let path = path(of: sha256)
        var status = stat()
        guard stat(path, &status) == 0 else {
            verified.removeAll { $0 == sha256 }
            return false
        }
        if UInt64(status.st_size) == bytes, verified.contains(sha256) || Self.hash(ofFile: path) == sha256 {
            noteUse(of: sha256)
            return true
        }
        // Left behind by a process that ended in the middle, or damaged since.
        unlink(path)
        verified.removeAll { $0 == sha256 }
        return false
    }

    private func noteUse(of sha256: String) {
        verified.removeAll { $0 == sha256 }
        verified.append(sha256)
        while verified.count > Self.artifactsMax { unlink(path(of: verified.removeFirst())) }
    }

    private func start(sha256: String, bytes: UInt64, _ completion: @escaping Completion) {
        if let problem = makeDirectories(directory) { return completion(.failure(ArtifactFailure(problem))) }
        let partPath = path(of: sha256) + ".part"
        let descriptor = open(partPath, O_RDWR | O_CREAT | O_CLOEXEC, 0o700)
        guard descriptor >= 0 else { return completion(.failure(ArtifactFailure("cannot create \(partPath): \(errnoText())"))) }
        let fetch = Fetch(sha256: sha256, bytes: bytes, partPath: partPath, descriptor: descriptor)
        fetch.waiting.append(completion)
        fetches[sha256] = fetch
        guard resume(fetch) else { return finish(fetch, .failure(ArtifactFailure("cannot read \(partPath): \(errnoText())"))) }
        next(fetch)
    }

    /// Goes on behind what an earlier, broken fetch left.
    private func resume(_ fetch: Fetch) -> Bool {
        var status = stat()
        guard fstat(fetch.descriptor, &status) == 0 else { return false }
        guard status.st_size > 0, UInt64(status.st_size) <= fetch.bytes else { return fetch.restart() }
        guard let offset = Self.hash(fetch.descriptor, into: &fetch.digest) else { return fetch.restart() }
        fetch.offset = offset
        fetch.resumed = true
        return true
    }

    private func next(_ fetch: Fetch) {
        guard fetch.offset < fetch.bytes else { return complete(fetch) }
        source.fetch(sha256: fetch.sha256, offset: fetch.offset, bytesMax: Self.pieceBytes) { [self] result in
            // A loop that has ended takes it no more: then the TaskManager ends, and so does whoever waits.
            loop.run { self.received(result, for: fetch) }
        }
    }

    private func received(_ result: Result<ArtifactPiece, ArtifactFailure>, for fetch: Fetch) {
        switch result {
        case .failure(let failure):
            fetch.attempts += 1
            guard failure.isTransient, fetch.attempts < Self.attemptsMax else {
                return finish(fetch, .failure(failure), keepPart: failure.isTransient)
            }
            loop.schedule(after: retryDelay * min(fetch.attempts, 5)) { self.next(fetch) }
        case .success(let piece):
            fetch.attempts = 0
            guard piece.totalBytes == fetch.bytes else {
                return finish(fetch, .failure(ArtifactFailure("artifact \(fetch.sha256) has \(piece.totalBytes) bytes, not \(fetch.bytes)")))
            }
            guard !piece.bytes.isEmpty, fetch.offset + UInt64(piece.bytes.count) <= fetch.bytes else {
                let problem = "the JobManager sent \(piece.bytes.count) bytes of artifact \(fetch.sha256) at \(fetch.offset) of \(fetch.bytes)"
                return finish(fetch, .failure(ArtifactFailure(problem)))
            }
            guard Self.write(piece.bytes, to: fetch.descriptor) else {
                return finish(fetch, .failure(ArtifactFailure("cannot write \(fetch.partPath): \(errnoText())")))
            }
            fetch.digest.update(piece.bytes)
            fetch.offset += UInt64(piece.bytes.count)
            next(fetch)
        }
    }

    private func complete(_ fetch: Fetch) {
        let actual = fetch.takeDigest()
        guard actual == fetch.sha256 else {
            // What an earlier fetch left may be what is wrong: once more, from the start.
            if fetch.resumed, fetch.restart() { return next(fetch) }
            let problem =
                "artifact \(fetch.sha256) came with other content (SHA-256 \(actual ?? "unknown")): "
                + "it is damaged at the JobManager or on the way"
            return finish(fetch, .failure(ArtifactFailure(problem)))
        }
        guard fchmod(fetch.descriptor, 0o755) == 0, rename(fetch.partPath, path(of: fetch.sha256)) == 0 else {
            return finish(fetch, .failure(ArtifactFailure("cannot put \(path(of: fetch.sha256)) in place: \(errnoText())")))
        }
        noteUse(of: fetch.sha256)
        finish(fetch, .success(path(of: fetch.sha256)))
    }

    private func finish(_ fetch: Fetch, _ result: Result<String, ArtifactFailure>, keepPart: Bool = false) {
        fetches[fetch.sha256] = nil
        if case .failure = result, !keepPart { unlink(fetch.partPath) }
        let waiting = fetch.waiting
        fetch.waiting = []
        // A file that is open for writing cannot be executed.
        fetch.closeFile()
        for completion in waiting { completion(result) }
    }

    private static func hash(ofFile path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var digest = SHA256()
        guard hash(descriptor, into: &digest) != nil else { return nil }
        return digest.hexadecimal()
    }

    /// Feeds the file from its start; returns its length.
    private static func hash(_ descriptor: Int32, into digest: inout SHA256) -> UInt64? {
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        var total: UInt64 = 0
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            guard count > 0 else { return total }
            buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            total += UInt64(count)
        }
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Bool {
        bytes.withUnsafeBytes { bytes in
            var done = 0
            while done < bytes.count {
                let count = Glibc.write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return false }
                done += count
            }
            return true
        }
    }
}
