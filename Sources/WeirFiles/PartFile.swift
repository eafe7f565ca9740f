import Glibc
import WeirBase
import WeirDataflow

/// The file that a subtask of a sink writes, and those of subtasks that are no more, which it looks after.
///
/// The state has one entry a file, all of which every subtask sees at a restore:
///
///     | version: u8 = 1 | number: i32 | length: i64 |        little-endian
final class PartFile {
    static let stateName = "files.parts"

    private let directory: String
    private var number: Int32 = 0
    private var descriptor: Int32 = -1
    private var length: Int64 = 0
    private var needsSynchronize = false
    private var context: OperatorContext?
    /// Files of the checkpoint, number to length; nil without a checkpoint.
    private var restored: [Int32: Int64]?
    /// Files of vanished subtasks that this one keeps in its checkpoints, so that a restore does not take them for leftovers.
    private var adopted: [Int32: Int64] = [:]

    init(directory: String) { self.directory = directory }

    func restore(from state: RestoredState) throws {
        let entries = state.union(Self.stateName)
        guard !entries.isEmpty else { return }
        var files: [Int32: Int64] = [:]
        do {
            for entry in entries {
                try entry.withUnsafeBytes { bytes in
                    var reader = ByteReader(bytes)
                    guard try reader.readU8() == 1 else { throw DecodingFailure("an entry of an unknown version", offset: 0) }
                    let number = try reader.readI32()
                    let length = try reader.readI64()
                    try reader.expectEnd()
                    guard number >= 0, length >= 0 else { throw DecodingFailure("file \(number) of \(length) bytes", offset: 1) }
                    files[number] = length
                }
            }
        } catch {
            throw JobFailure(
                domain: .system, recovery: .fail, message: "the output lengths of checkpoint \(state.checkpoint) are damaged",
                cause: String(describing: error))
        }
        restored = files
    }

    /// Cuts the files that fall to this subtask back to the checkpoint, and opens its own at the end.
    func open(_ context: OperatorContext) throws {
        self.context = context
        number = Int32(context.subtask)
        try makeDirectory()
        for other in try existing() where Int(other) % context.parallelism == context.subtask && other != number {
            if let kept = restored?[other] {
                try cut(other, to: kept)
                adopted[other] = kept
            } else if unlink(path(other)) != 0, errno != ENOENT {
                throw fileFailure("cannot remove \"\(path(other))\", which no checkpoint knows", errno)
            }
        }
        for (other, kept) in restored ?? [:] where Int(other) % context.parallelism == context.subtask && other != number {
            guard adopted[other] != nil || kept == 0 else { throw missing(other, kept) }
        }
        length = restored?[number] ?? 0
        descriptor = retrying { Glibc.open(path(number), O_WRONLY | O_CREAT | O_CLOEXEC, 0o644) }
        guard descriptor >= 0 else { throw fileFailure("cannot write \"\(path(number))\"", errno) }
        try cut(descriptor, number, to: length)
        guard lseek(descriptor, off_t(length), SEEK_SET) >= 0 else { throw fileFailure("cannot write \"\(path(number))\"", errno) }
        try synchronizeDirectory()
        restored = nil
    }

    func write(_ bytes: UnsafeRawBufferPointer) throws {
        guard bytes.count > 0 else { return }
        needsSynchronize = true
        var written = 0
        while written < bytes.count, let base = bytes.baseAddress {
            let count = retrying { Glibc.write(descriptor, base + written, bytes.count - written) }
            guard count > 0 else { throw fileFailure("cannot write \"\(path(number))\" behind byte \(length)", errno) }
            written += count
            length += Int64(count)
        }
        context?.counter("numBytesOut").add(bytes.count)
    }

    /// Waits until everything written is on the disk.
    func synchronize() throws {
        guard needsSynchronize else { return }
        guard retrying({ fsync(descriptor) }) == 0 else { throw fileFailure("cannot write \"\(path(number))\" through to the disk", errno) }
        needsSynchronize = false
    }

    func snapshot(into builder: SnapshotBuilder) throws {
        try synchronize()
        var files = adopted
        files[number] = length
        builder.addList(
            Self.stateName,
            files.sorted { $0.key < $1.key }.map { number, length in
                var writer = ByteWriter(capacity: 16)
                writer.writeU8(1)
                writer.writeI32(number)
                writer.writeI64(length)
                return writer.finish()
            })
    }

    func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    // MARK: Files

    private func path(_ number: Int32) -> String { "\(directory)/part-\(number)" }

    private func makeDirectory() throws {
        var path = directory.hasPrefix("/") ? "" : "."
        for part in directory.split(separator: "/") {
            path += "/\(part)"
            guard mkdir(path, 0o755) == 0 || errno == EEXIST || errno == EISDIR else {
                // A parent that is there but may not be written is no problem as long as the last one is.
                let code = errno
                guard access(path, F_OK) == 0 else { throw fileFailure("cannot make the directory \"\(path)\"", code, recovery: .fail) }
                continue
            }
        }
    }

    /// The numbers of the part files that are there.
    private func existing() throws -> [Int32] {
        guard let listing = opendir(directory) else { throw fileFailure("cannot list the directory \"\(directory)\"", errno, recovery: .fail) }
        defer { closedir(listing) }
        var numbers: [Int32] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: entry.pointee.d_name)) { String(cString: $0) }
            }
            guard name.hasPrefix("part-"), let number = Int32(name.dropFirst(5)), "part-\(number)" == name, number >= 0 else { continue }
            numbers.append(number)
        }
        return numbers.sorted()
    }

    private func cut(_ number: Int32, to length: Int64) throws {
        let file = retrying { Glibc.open(path(number), O_WRONLY | O_CLOEXEC) }
        guard file >= 0 else { throw fileFailure("cannot write \"\(path(number))\"", errno) }
        defer { _ = Glibc.close(file) }
        try cut(file, number, to: length)
    }

    private func cut(_ file: Int32, _ number: Int32, to length: Int64) throws {
        var status = stat()
        guard fstat(file, &status) == 0 else { throw fileFailure("cannot look at \"\(path(number))\"", errno) }
        guard Int64(status.st_size) >= length else { throw missing(number, length, found: Int64(status.st_size)) }
        // What a checkpoint knows of was written through when it was taken.
        guard Int64(status.st_size) > length else { return }
        guard retrying({ ftruncate(file, off_t(length)) }) == 0 else {
            throw fileFailure("cannot cut \"\(path(number))\" back to \(length) bytes", errno)
        }
        guard retrying({ fsync(file) }) == 0 else { throw fileFailure("cannot write \"\(path(number))\" through to the disk", errno) }
    }

    private func missing(_ number: Int32, _ length: Int64, found: Int64? = nil) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .fail,
            message: "the output file \"\(path(number))\" \(found.map { "has only \($0) bytes" } ?? "is gone"), but the checkpoint has"
                + " \(length) bytes of it: it was changed by someone else, or the job moved to a host that does not share the directory")
    }

    /// Makes the names of new files durable.
    private func synchronizeDirectory() throws {
        let handle = retrying { Glibc.open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard handle >= 0 else { throw fileFailure("cannot open the directory \"\(directory)\"", errno) }
        defer { _ = Glibc.close(handle) }
        guard retrying({ fsync(handle) }) == 0 else { throw fileFailure("cannot write the directory \"\(directory)\" through", errno) }
    }
}
