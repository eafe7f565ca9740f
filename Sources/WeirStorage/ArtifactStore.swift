internal import Glibc
internal import Synchronization
package import WeirBase
internal import WeirDigest

/// Job binaries by their SHA-256, uploaded in pieces that can go on where a lost connection left them.
///
///     <directory>/<sha256>        verified, mode 0755, never changed again
///     <directory>/<sha256>.part   what has come so far
///
/// Bad requests (no hash, a gap, too much) are `configuration` failures, the disk's are `external`. Every call blocks on the disk;
/// any thread may call.
package final class ArtifactStore: Sendable {
    /// How far an upload is.
    package struct Progress: Hashable, Sendable {
        /// Bytes that are here: where the next piece starts.
        package var offset: Int
        /// Whether the artifact is whole, verified and in place.
        package var isComplete: Bool
    }

    /// Larger than any binary: a wrong number ends here and not on a full disk.
    package static let artifactBytesMax = 4 << 30
    private let directory: String
    /// Sizes announced by ``begin(_:sizeBytes:)``. The lock also keeps two uploads of one binary from mixing.
    private let sizes = Mutex<[String: Int]>([:])

    /// Makes the directory if there is none.
    package init(directory: String) throws(JobFailure) {
        self.directory = directory
        try FileSystem.createDirectory(directory)
    }

    /// Where a whole artifact lies; whether it does, ``contains(_:sizeBytes:)`` says.
    package func path(of sha256: String) -> String { directory + "/" + sha256 }
    private func partPath(of sha256: String) -> String { path(of: sha256) + ".part" }

    /// Whether the artifact is whole and here. It was verified when it came.
    package func contains(_ sha256: String, sizeBytes: Int) throws(JobFailure) -> Bool {
        try check(sha256)
        return fileSize(path(of: sha256)) == Int64(sizeBytes)
    }

    // MARK: Uploading

    /// Starts an upload, or goes on with one: the caller sends what follows the offset.
    package func begin(_ sha256: String, sizeBytes: Int) throws(JobFailure) -> Progress {
        try check(sha256)
        guard sizeBytes > 0, sizeBytes <= Self.artifactBytesMax else {
            throw refusal("an artifact of \(sizeBytes) bytes: 1 to \(Self.artifactBytesMax) are taken")
        }
        if try contains(sha256, sizeBytes: sizeBytes) { return Progress(offset: sizeBytes, isComplete: true) }
        return try locked { (sizes) throws(JobFailure) in
            sizes[sha256] = sizeBytes
            let present = Int(fileSize(partPath(of: sha256)) ?? 0)
            // More than announced is no beginning of it; all of it, and not in place, may be what failed its verification.
            if present >= sizeBytes {
                try FileSystem.remove(partPath(of: sha256))
                return Progress(offset: 0, isComplete: false)
            }
            return Progress(offset: present, isComplete: false)
        }
    }

    /// Adds a piece; with the last one the artifact is verified and put in place.
    ///
    /// A piece that is here already, because its answer was lost, changes nothing: the result says where to go on.
    /// - Throws: `configuration` if the upload was not begun, for a gap, for more bytes than announced, and for contents that
    ///   do not have the hash; the upload then starts from the beginning.
    package func append(_ sha256: String, offset: Int, bytes: [UInt8]) throws(JobFailure) -> Progress {
        try check(sha256)
        return try locked { (sizes) throws(JobFailure) in
            guard let size = sizes[sha256] else {
                if let whole = fileSize(path(of: sha256)) { return Progress(offset: Int(whole), isComplete: true) }
                throw refusal("the upload of \(sha256) was not begun, or before a restart: begin it again")
            }
            let part = partPath(of: sha256)
            let present = Int(fileSize(part) ?? 0)
            guard offset >= 0, offset <= present else { throw refusal("a piece at byte \(offset) of \(sha256): the next one starts at \(present)") }
            guard bytes.count <= size - offset else { throw refusal("\(offset + bytes.count) bytes of \(sha256): \(size) were announced") }
            let known = Swift.min(present - offset, bytes.count)
            if known < bytes.count { try extend(part, with: bytes[known...]) }
            let end = Swift.max(present, offset + bytes.count)
            guard end == size else { return Progress(offset: end, isComplete: false) }
            try complete(sha256, part: part)
            sizes[sha256] = nil
            return Progress(offset: size, isComplete: true)
        }
    }

    private func extend(_ part: String, with bytes: ArraySlice<UInt8>) throws(JobFailure) {
        let file = open(part, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw FileFailure("create", part, errno).jobFailure() }
        defer { close(file) }
        if let code = bytes.withUnsafeBytes({ writeAll(file, $0) }) { throw FileFailure("write", part, code).jobFailure() }
    }

    private func complete(_ sha256: String, part: String) throws(JobFailure) {
        let found = try Self.sha256(ofFile: part)
        guard found == sha256 else {
            try FileSystem.remove(part)
            throw refusal("the uploaded bytes have SHA-256 \(found), \(sha256) was announced: upload again")
        }
        do throws(FileFailure) {
            let file = open(part, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { throw FileFailure("open", part, errno) }
            defer { close(file) }
            guard fchmod(file, 0o755) == 0 else { throw FileFailure("make executable", part, errno) }
            guard fsync(file) == 0 else { throw FileFailure("flush", part, errno) }
            try SystemFiles().rename(part, to: path(of: sha256))
            try SystemFiles().syncDirectory(directory)
        } catch {
            throw error.jobFailure()
        }
    }

    // MARK: Reading

    /// Reads a piece of a whole artifact; empty past its end.
    package func read(_ sha256: String, offset: Int, bytesMax: Int) throws(JobFailure) -> (bytes: [UInt8], total: Int) {
        try check(sha256)
        let path = path(of: sha256)
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else {
            if errno == ENOENT { throw refusal("no artifact \(sha256) here") }
            throw FileFailure("open", path, errno).jobFailure()
        }
        defer { close(file) }
        let total = Int(fileSize(path) ?? 0)
        guard offset >= 0, offset < total, bytesMax > 0 else { return ([], total) }
        let wanted = Swift.min(bytesMax, total - offset)
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, count in
            while count < wanted {
                let got = pread(file, buffer.baseAddress! + count, wanted - count, off_t(offset + count))
                if got < 0, errno == EINTR { continue }
                if got < 0 { code = errno }
                guard got > 0 else { return }
                count += got
            }
        }
        guard code == 0 else { throw FileFailure("read", path, code).jobFailure() }
        return (bytes, total)
    }

    /// Deletes an artifact and what has come of it; one that is not there is no failure.
    package func delete(_ sha256: String) throws(JobFailure) {
        try check(sha256)
        try locked { (sizes) throws(JobFailure) in
            sizes[sha256] = nil
            try FileSystem.remove(partPath(of: sha256))
            try FileSystem.remove(path(of: sha256))
        }
    }

    /// The SHA-256 of a file, as 64 lower-case hexadecimal digits.
    package static func sha256(ofFile path: String) throws(JobFailure) -> String {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileFailure("open", path, errno).jobFailure() }
        defer { close(file) }
        var digest = SHA256()
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let got = Glibc.read(file, &buffer, buffer.count)
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw FileFailure("read", path, errno).jobFailure() }
            guard got > 0 else { break }
            buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0[0..<got])) }
        }
        guard let text = digest.hexadecimal() else {
            throw JobFailure(domain: .system, recovery: .fail, message: "libcrypto has no SHA-256")
        }
        return text
    }

    /// What becomes part of a path must be a hash and nothing else.
    private func check(_ sha256: String) throws(JobFailure) {
        guard SHA256.isHash(sha256) else { throw refusal("\"\(sha256.prefix(80))\" is no SHA-256: 64 lower-case hexadecimal digits") }
    }

    private func refusal(_ message: String) -> JobFailure { JobFailure(domain: .configuration, recovery: .fail, message: message) }

    private func locked<Result>(_ body: (inout [String: Int]) throws(JobFailure) -> Result) throws(JobFailure) -> Result {
        let result = sizes.withLock { sizes in
            do throws(JobFailure) { return Swift.Result<Result, JobFailure>.success(try body(&sizes)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
