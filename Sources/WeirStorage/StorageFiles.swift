internal import Glibc
package import WeirBase

/// What the operating system said no to.
package struct FileFailure: Error, Equatable {
    /// A verb: "write", "rename".
    package var operation: String
    package var path: String
    /// An `errno`.
    package var code: Int32

    package init(_ operation: String, _ path: String, _ code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    /// The system's words for ``code``.
    package var reason: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    package var isMissing: Bool { code == ENOENT || code == ENOTDIR }

    /// - Parameter recovery: Restart, where another attempt can help: a full disk is cleared, a server comes back.
    package func jobFailure(_ recovery: JobFailure.Recovery = .restart) -> JobFailure {
        JobFailure(domain: .external, recovery: recovery, message: "cannot \(operation) \(path)", cause: reason)
    }
}

/// The calls on files that storage makes: the place where tests inject faults.
package protocol StorageFiles: Sendable {
    /// Makes a directory and those above it; one that exists is no failure.
    func makeDirectory(_ path: String) throws(FileFailure)
    /// Creates or empties a file, writes the parts one after the other and flushes them to the disk.
    func write(_ path: String, _ parts: [UnsafeRawBufferPointer]) throws(FileFailure)
    func rename(_ from: String, to: String) throws(FileFailure)
    /// Flushes a directory's entries, so that a rename in it outlives a crash.
    func syncDirectory(_ path: String) throws(FileFailure)
    func read(_ path: String) throws(FileFailure) -> [UInt8]
    /// Reads bytes from a place on; fewer where the file ends.
    func read(_ path: String, offset: Int, count: Int) throws(FileFailure) -> [UInt8]
    /// Names in a directory, sorted, without `.` and `..`.
    func list(_ path: String) throws(FileFailure) -> [String]
    /// Removes a file, or an empty directory; one that is gone is no failure.
    func remove(_ path: String) throws(FileFailure)
    /// Creates an empty file; EEXIST if there is one. Of several that try at the same time one succeeds.
    func createExclusively(_ path: String) throws(FileFailure)
    /// Sets the time of a file, which its server does and no cache answers; ENOENT or ESTALE if it is gone.
    func touch(_ path: String) throws(FileFailure)
}

/// The operating system's files.
package struct SystemFiles: StorageFiles {
    package init() {}

    package func makeDirectory(_ path: String) throws(FileFailure) {
        if mkdir(path, 0o755) == 0 {
            // The new entry itself has to be durable, else a crash takes what is put inside.
            if let parent = parentDirectory(path) { try syncDirectory(parent) }
            return
        }
        let code = errno
        if code == EEXIST {
            guard isDirectory(path) else { throw FileFailure("make the directory", path, ENOTDIR) }
            return
        }
        guard code == ENOENT, let parent = parentDirectory(path), parent != path else { throw FileFailure("make the directory", path, code) }
        try makeDirectory(parent)
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw FileFailure("make the directory", path, errno) }
        try syncDirectory(parent)
    }

    package func write(_ path: String, _ parts: [UnsafeRawBufferPointer]) throws(FileFailure) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw FileFailure("create", path, errno) }
        for part in parts {
            if let code = writeAll(file, part) {
                close(file)
                throw FileFailure("write", path, code)
            }
        }
        guard fsync(file) == 0 else {
            let code = errno
            close(file)
            throw FileFailure("flush", path, code)
        }
        // Network file systems report a full disk here at the latest.
        guard close(file) == 0 else { throw FileFailure("close", path, errno) }
    }

    package func rename(_ from: String, to: String) throws(FileFailure) {
        guard Glibc.rename(from, to) == 0 else { throw FileFailure("rename \(from) to", to, errno) }
    }

    package func syncDirectory(_ path: String) throws(FileFailure) {
        let directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw FileFailure("open the directory", path, errno) }
        defer { close(directory) }
        // Some file systems do not flush directories, and say so: they have nothing to flush.
        guard fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP else { throw FileFailure("flush the directory", path, errno) }
    }

    package func read(_ path: String) throws(FileFailure) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileFailure("open", path, errno) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw FileFailure("read", path, errno) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileFailure("read", path, EISDIR) }
        let size = Int(status.st_size)
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            while count < size {
                let got = Glibc.read(file, buffer.baseAddress! + count, size - count)
                if got < 0, errno == EINTR { continue }
                if got < 0 { code = errno }
                guard got > 0 else { return }
                count += got
            }
        }
        guard code == 0 else { throw FileFailure("read", path, code) }
        return bytes
    }

    package func read(_ path: String, offset: Int, count: Int) throws(FileFailure) -> [UInt8] {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileFailure("open", path, errno) }
        defer { close(file) }
        var code: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
            while done < count {
                let got = pread(file, buffer.baseAddress! + done, count - done, off_t(offset + done))
                if got < 0, errno == EINTR { continue }
                if got < 0 { code = errno }
                guard got > 0 else { return }
                done += got
            }
        }
        guard code == 0 else { throw FileFailure("read", path, code) }
        return bytes
    }

    package func list(_ path: String) throws(FileFailure) -> [String] {
        guard let directory = opendir(path) else { throw FileFailure("list", path, errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(directory) else { break }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: Int(NAME_MAX) + 1) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw FileFailure("list", path, errno) }
        return names.sorted()
    }

    package func remove(_ path: String) throws(FileFailure) {
        guard Glibc.remove(path) == 0 || errno == ENOENT else { throw FileFailure("delete", path, errno) }
    }

    package func createExclusively(_ path: String) throws(FileFailure) {
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard file >= 0 else { throw FileFailure("create", path, errno) }
        close(file)
    }

    package func touch(_ path: String) throws(FileFailure) {
        guard utimensat(AT_FDCWD, path, nil, 0) == 0 else { throw FileFailure("touch", path, errno) }
    }
}

extension StorageFiles {
    /// For files that can only be read whole.
    package func read(_ path: String, offset: Int, count: Int) throws(FileFailure) -> [UInt8] {
        Array(try read(path).dropFirst(offset).prefix(count))
    }

    /// What is appended to a name while its file is not whole.
    package static var temporarySuffix: String { ".tmp" }

    /// Makes a file appear whole or not at all: writes it under a temporary name, flushes, renames, flushes the directory.
    package func writeAtomically(_ path: String, _ parts: [UnsafeRawBufferPointer]) throws(FileFailure) {
        let temporary = path + Self.temporarySuffix
        do throws(FileFailure) {
            try write(temporary, parts)
            try rename(temporary, to: path)
        } catch {
            // What was written takes space that may be short; the failure that counts is the first one.
            try? remove(temporary)
            throw error
        }
        if let parent = parentDirectory(path) { try syncDirectory(parent) }
    }
}

/// The operating system's files, with failures as a person reads them. Every call blocks.
package enum FileSystem {
    private static let files = SystemFiles()

    package static func createDirectory(_ path: String) throws(JobFailure) {
        do throws(FileFailure) { try files.makeDirectory(path) } catch { throw error.jobFailure() }
    }

    /// The file appears whole or not at all, and is on the disk when this returns.
    package static func writeAtomically(_ bytes: [UInt8], to path: String) throws(JobFailure) {
        do throws(FileFailure) {
            try withBytes(bytes) { (bytes) throws(FileFailure) in try files.writeAtomically(path, [bytes]) }
        } catch {
            throw error.jobFailure()
        }
    }

    package static func read(_ path: String) throws(JobFailure) -> [UInt8] {
        do throws(FileFailure) { return try files.read(path) } catch { throw error.jobFailure() }
    }

    /// Names in a directory, sorted.
    package static func list(_ path: String) throws(JobFailure) -> [String] {
        do throws(FileFailure) { return try files.list(path) } catch { throw error.jobFailure() }
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Removes a file; one that is gone is no failure.
    package static func remove(_ path: String) throws(JobFailure) {
        do throws(FileFailure) { try files.remove(path) } catch { throw error.jobFailure() }
    }

    /// Removes a directory if it is empty. One that is not, or is gone, is no failure.
    package static func removeEmptyDirectory(_ path: String) throws(JobFailure) {
        guard rmdir(path) != 0, errno != ENOENT, errno != ENOTEMPTY, errno != EEXIST else { return }
        throw FileFailure("delete the directory", path, errno).jobFailure()
    }

    /// Removes a directory with everything in it; symbolic links are removed, not followed.
    package static func removeTree(_ path: String) throws(JobFailure) {
        do throws(FileFailure) { try removeTree(at: path) } catch { throw error.jobFailure() }
    }

    private static func removeTree(at path: String) throws(FileFailure) {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            if errno == ENOENT { return }
            throw FileFailure("delete", path, errno)
        }
        if status.st_mode & S_IFMT == S_IFDIR {
            for name in try files.list(path) { try removeTree(at: path + "/" + name) }
        }
        try files.remove(path)
    }
}

/// Writes all of it; returns an `errno` otherwise.
func writeAll(_ file: Int32, _ bytes: UnsafeRawBufferPointer) -> Int32? {
    var written = 0
    while written < bytes.count {
        let count = Glibc.write(file, bytes.baseAddress! + written, bytes.count - written)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return count < 0 ? errno : EIO }
        written += count
    }
    return nil
}

func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
}

/// The size of a file; nil if there is none.
func fileSize(_ path: String) -> Int64? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return Int64(status.st_size)
}

/// What is above a path; nil for a path without one.
func parentDirectory(_ path: String) -> String? {
    var trimmed = path[...]
    while trimmed.utf8.count > 1, trimmed.hasSuffix("/") { trimmed.removeLast() }
    guard let slash = trimmed.lastIndex(of: "/") else { return trimmed == "." ? nil : "." }
    return slash == trimmed.startIndex ? (trimmed == "/" ? nil : "/") : String(trimmed[..<slash])
}
