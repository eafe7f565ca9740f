import Glibc
import WeirBase
package import WeirKafkaWire
import WeirTransport

/// An open file of the data directory. Every failure names its path. Closed with the last reference.
package final class DataFile {
    package let path: String
    private let descriptor: Int32
    private var isOpen = true

    package enum Mode: Sendable {
        case read
        /// Reading and writing; the file is made if it does not exist.
        case write
    }

    package init(_ path: String, _ mode: Mode) throws(BrokerFailure) {
        let flags = mode == .read ? O_RDONLY : O_RDWR | O_CREAT
        descriptor = open(path, flags | O_CLOEXEC, 0o644)
        self.path = path
        guard descriptor >= 0 else {
            isOpen = false
            throw Self.failure("cannot open", path)
        }
    }

    deinit { close() }

    package func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
    }

    package func size() throws(BrokerFailure) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw Self.failure("cannot stat", path) }
        return Int(status.st_size)
    }

    /// Writes all of the bytes at an offset.
    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(BrokerFailure) {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let written = pwrite(descriptor, base + done, bytes.count - done, off_t(offset + done))
            if written < 0, errno == EINTR { continue }
            guard written > 0 else { throw Self.failure("cannot write", path) }
            done += written
        }
    }

    package func write(_ bytes: KafkaBytes, at offset: Int) throws(BrokerFailure) {
        try bytes.withUnsafeBytes { (bytes) throws(BrokerFailure) in try write(bytes, at: offset) }
    }

    /// Reads from an offset until the room is full or the file ends.
    ///
    /// - Returns: The bytes read.
    package func read(into room: UnsafeMutableRawBufferPointer, at offset: Int) throws(BrokerFailure) -> Int {
        var done = 0
        while done < room.count, let base = room.baseAddress {
            let count = pread(descriptor, base + done, room.count - done, off_t(offset + done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw Self.failure("cannot read", path) }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// At most `count` bytes from an offset: fewer where the file ends.
    package func read(_ count: Int, at offset: Int) throws(BrokerFailure) -> KafkaBytes {
        try KafkaBytes(count: count) { (room) throws(BrokerFailure) -> Int in try read(into: room, at: offset) }
    }

    package func truncate(to size: Int) throws(BrokerFailure) {
        guard ftruncate(descriptor, off_t(size)) == 0 else { throw Self.failure("cannot truncate", path) }
    }

    /// Returns once the file's bytes and its size are on the disk.
    package func sync() throws(BrokerFailure) {
        guard fdatasync(descriptor) == 0 else { throw Self.failure("cannot write to the disk", path) }
    }

    /// Takes the lock that one process at a time can have; it goes with the file.
    ///
    /// - Returns: False when another has it.
    package func lock() -> Bool { flock(descriptor, LOCK_EX | LOCK_NB) == 0 }

    // MARK: Without an open file

    static func failure(_ what: String, _ path: String, code: Int32 = errno) -> BrokerFailure {
        BrokerFailure("\(what) (\(errorText(code)))", path: path)
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    package static func makeDirectory(_ path: String) throws(BrokerFailure) {
        var prefix = ""
        for part in path.split(separator: "/", omittingEmptySubsequences: true) {
            prefix += prefix.isEmpty && !path.hasPrefix("/") ? "\(part)" : "/\(part)"
            guard mkdir(prefix, 0o755) == 0 || errno == EEXIST else { throw failure("cannot make the directory", prefix) }
        }
    }

    /// The names in a directory, sorted, without "." and "..".
    package static func list(_ path: String) throws(BrokerFailure) -> [String] {
        guard let directory = opendir(path) else { throw failure("cannot list", path) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Removes a file; one that does not exist is no error.
    package static func remove(_ path: String) throws(BrokerFailure) {
        guard unlink(path) == 0 || errno == ENOENT else { throw failure("cannot remove", path) }
    }

    /// Removes a directory and the files in it; one that does not exist is no error.
    package static func removeDirectory(_ path: String) throws(BrokerFailure) {
        guard exists(path) else { return }
        for name in try list(path) { try remove("\(path)/\(name)") }
        guard rmdir(path) == 0 || errno == ENOENT else { throw failure("cannot remove", path) }
    }

    package static func rename(_ from: String, to path: String) throws(BrokerFailure) {
        guard Glibc.rename(from, path) == 0 else { throw failure("cannot rename to \(path)", from) }
    }

    /// Returns once the names in a directory are on the disk.
    package static func syncDirectory(_ path: String) throws(BrokerFailure) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure("cannot open", path) }
        defer { Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure("cannot write to the disk", path) }
    }

    /// Replaces a file as a whole: after a crash it is the old one or the new one.
    package static func replace(_ path: String, with bytes: [UInt8]) throws(BrokerFailure) {
        let temporary = path + ".new"
        let file = try DataFile(temporary, .write)
        try file.truncate(to: 0)
        try file.write(KafkaBytes(bytes), at: 0)
        try file.sync()
        file.close()
        try rename(temporary, to: path)
        try syncDirectory(String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]))
    }
}
