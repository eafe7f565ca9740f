import Glibc
import WeirBase

/// The directory of a sink: what is done to whole files. Their names are relative to it.
///
/// Only what NFS keeps too is relied on: rename is atomic, an open descriptor goes on meaning its file whatever becomes of the name, and
/// what fsync returned from is durable.
struct PartDirectory {
    let path: String
    private static let copyBytes = 1 << 20

    func path(_ name: String) -> String { "\(path)/\(name)" }

    /// Makes it, and the directories above it.
    func make() throws {
        var part = path.hasPrefix("/") ? "" : "."
        for name in path.split(separator: "/") {
            part += "/\(name)"
            guard mkdir(part, 0o755) == 0 || errno == EEXIST || errno == EISDIR else {
                // A parent that is there but may not be written is no problem as long as the last one is.
                let code = errno
                guard access(part, F_OK) == 0 else { throw fileFailure("cannot make the directory \"\(part)\"", code, recovery: .fail) }
                continue
            }
        }
    }

    /// The files of sinks in it, in no order.
    func parts() throws -> [FoundPart] {
        guard let listing = opendir(path) else { throw fileFailure("cannot list the directory \"\(path)\"", errno, recovery: .fail) }
        defer { closedir(listing) }
        var found: [FoundPart] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: entry.pointee.d_name)) { String(cString: $0) }
            }
            if let part = FoundPart(fileName: name) { found.append(part) }
        }
        return found
    }

    /// The length in bytes; nil for a file that is not there.
    func length(_ name: String) throws -> Int64? {
        var status = stat()
        guard stat(path(name), &status) != 0 else { return Int64(status.st_size) }
        guard errno == ENOENT else { throw fileFailure("cannot look at \"\(path(name))\"", errno) }
        return nil
    }

    /// - Returns: False if the file is not there.
    func rename(_ name: String, to other: String) throws -> Bool {
        if Glibc.rename(path(name), path(other)) == 0 { return true }
        guard errno == ENOENT else { throw fileFailure("cannot rename \"\(path(name))\" to \"\(path(other))\"", errno) }
        return false
    }

    /// - Returns: False if the file is not there.
    func remove(_ name: String) throws -> Bool {
        if unlink(path(name)) == 0 { return true }
        guard errno == ENOENT else { throw fileFailure("cannot remove \"\(path(name))\"", errno) }
        return false
    }

    /// Opens a file for writing from its start, new or emptied.
    func create(_ name: String) throws -> Int32 {
        let descriptor = retrying { open(path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644) }
        guard descriptor >= 0 else { throw fileFailure("cannot write \"\(path(name))\"", errno) }
        return descriptor
    }

    /// Makes a file of the first `length` bytes of another one, through to the disk.
    func copy(_ name: String, bytes length: Int64, to copy: String) throws {
        let source = retrying { open(path(name), O_RDONLY | O_CLOEXEC) }
        guard source >= 0 else { throw fileFailure("cannot read \"\(path(name))\"", errno) }
        defer { close(source) }
        let target = try create(copy)
        defer { close(target) }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Self.copyBytes, alignment: 16)
        defer { buffer.deallocate() }
        var copied: Int64 = 0
        while copied < length {
            let wanted = Int(min(Int64(buffer.count), length - copied))
            let count = retrying { read(source, buffer.baseAddress, wanted) }
            guard count > 0 else {
                throw fileFailure("cannot read \"\(path(name))\" behind byte \(copied) of \(length)", count == 0 ? EIO : errno)
            }
            try write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), to: target, named: copy, at: copied)
            copied += Int64(count)
        }
        try synchronize(target, named: copy)
    }

    /// Writes all of the bytes.
    ///
    /// - Parameter position: Of the first byte in the file; for the message.
    func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32, named name: String, at position: Int64) throws {
        var written = 0
        while written < bytes.count, let base = bytes.baseAddress {
            let count = retrying { Glibc.write(descriptor, base + written, bytes.count - written) }
            guard count > 0 else { throw fileFailure("cannot write \"\(path(name))\" behind byte \(position + Int64(written))", errno) }
            written += count
        }
    }

    /// Waits until everything written to a file is on the disk.
    func synchronize(_ descriptor: Int32, named name: String) throws {
        guard retrying({ fsync(descriptor) }) == 0 else { throw fileFailure("cannot write \"\(path(name))\" through to the disk", errno) }
    }

    /// Makes names durable.
    func synchronize() throws {
        let handle = retrying { open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        guard handle >= 0 else { throw fileFailure("cannot open the directory \"\(path)\"", errno) }
        defer { close(handle) }
        guard retrying({ fsync(handle) }) == 0 else { throw fileFailure("cannot write the directory \"\(path)\" through", errno) }
    }
}
