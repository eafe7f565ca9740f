internal import FoundationEssentials
internal import Glibc
internal import SwiftProtobuf
internal import WeirDigest
internal import WeirTransport
internal import WeirWire

/// The content of a binary as it was when it was opened.
package final class ArtifactFile {
    package let path: String
    package let bytes: UInt64
    package let sha256: String
    private let descriptor: Int32

    /// Reads the whole file once, for its hash.
    package init(path: String) throws(CommandFailure) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CommandFailure("cannot read \(path): \(errnoText())") }
        var digest = SHA256()
        var total: UInt64 = 0
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                let reason = errnoText()
                close(descriptor)
                throw CommandFailure("cannot read \(path): \(reason)")
            }
            guard count > 0 else { break }
            buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            total += UInt64(count)
        }
        bytes = total
        guard let hash = digest.hexadecimal() else {
            close(descriptor)
            throw CommandFailure("the system's libcrypto cannot compute SHA-256")
        }
        sha256 = hash
    }

    deinit {
        close(descriptor)
    }

    /// - Throws: Also when the file was cut short since.
    func read(at offset: UInt64, bytesMax: Int) throws(CommandFailure) -> [UInt8] {
        let wanted = Int(min(UInt64(bytesMax), bytes - min(offset, bytes)))
        var buffer = [UInt8](repeating: 0, count: wanted)
        var done = 0
        while done < wanted {
            let count = buffer.withUnsafeMutableBytes { room in
                pread(descriptor, room.baseAddress.map { $0 + done }, wanted - done, off_t(offset) + off_t(done))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                throw CommandFailure("cannot read \(path): \(count == 0 ? "it became shorter while it was uploaded" : errnoText())")
            }
            done += count
        }
        return buffer
    }
}

/// Sends a binary to the JobManager, from where an earlier, broken upload ended.
package struct ArtifactUpload {
    package static let pieceBytes = 1 << 20

    /// - Parameters:
    ///   - progress: Called with the bytes that are there, and their total.
    /// - Returns: Bytes that were sent; 0 where the JobManager had the content.
    @discardableResult
    package static func run(
        _ file: ArtifactFile, to client: JobManagerClient, progress: (UInt64, UInt64) -> Void
    ) throws(CommandFailure) -> UInt64 {
        var begin = WireBeginUpload()
        begin.sha256 = file.sha256
        begin.totalBytes = file.bytes
        var state: WireUploadOffset = try client.ask(.beginUpload, begin, to: "upload \(file.path)")
        var sent: UInt64 = 0
        // Every piece moves the offset on, so this many are enough; an answer that does not move it ends the loop.
        while !state.complete {
            guard state.offset < file.bytes else {
                throw CommandFailure("cannot upload \(file.path): the JobManager has all of it and does not accept it")
            }
            progress(state.offset, file.bytes)
            let bytes = try file.read(at: state.offset, bytesMax: pieceBytes)
            var chunk = WireUploadChunk()
            chunk.sha256 = file.sha256
            chunk.offset = state.offset
            chunk.bytes = Data(bytes)
            let next: WireUploadOffset = try client.ask(.uploadChunk, chunk, to: "upload \(file.path)")
            guard next.complete || next.offset > state.offset else {
                throw CommandFailure("cannot upload \(file.path): the JobManager took nothing at byte \(state.offset)")
            }
            sent += UInt64(bytes.count)
            state = next
        }
        progress(file.bytes, file.bytes)
        return sent
    }
}

/// A bar on stderr, only where that is a terminal.
final class ProgressBar {
    private let isShown: Bool
    private let label: String
    private var lastDrawn: Int64 = 0

    init(label: String) {
        self.label = label
        isShown = isatty(2) == 1
    }

    func update(_ done: UInt64, _ total: UInt64) {
        let now = monotonicMilliseconds()
        guard isShown, done == total || now - lastDrawn >= 50 else { return }
        lastDrawn = now
        writeText("\r" + Self.line(label: label, done: done, total: total) + "\u{1B}[K", to: 2)
    }

    func finish() {
        if isShown { writeText("\r\u{1B}[K", to: 2) }
    }

    static func line(label: String, done: UInt64, total: UInt64, width: Int = 30) -> String {
        let share = total == 0 ? 1 : Double(min(done, total)) / Double(total)
        let filled = Int(share * Double(width))
        let bar = String(repeating: "#", count: filled) + String(repeating: "-", count: width - filled)
        return "\(label) [\(bar)] \(Int(share * 100)) % of \(formatBytes(total))"
    }
}
