internal import Glibc
internal import WeirKafkaWire

/// A file of a log: its path, and its descriptor while ``OpenFiles`` keeps one.
final class LogFile {
    let path: String
    fileprivate var descriptor: Int32 = -1
    fileprivate var lastUse: UInt64 = 0
    fileprivate var isDirty = false

    init(path: String) { self.path = path }
}

/// The descriptors of the logs' files, at most a fixed number: the one not used for longest is closed first.
///
/// It also remembers which files were written since the last ``sync()``: closing one does not flush it, and `fdatasync` of a descriptor opened
/// anew flushes what an earlier one wrote.
package final class OpenFiles {
    private let limit: Int
    /// Whether ``sync()`` will be called: else nothing is remembered for it.
    private let isSynced: Bool
    private var open: [LogFile] = []
    private var dirty: [LogFile] = []
    private var dirtyDirectories: Set<String> = []
    private var uses: UInt64 = 0

    /// - Parameters:
    ///   - limit: Descriptors at a time, at least 1.
    ///   - isSynced: Whether writes wait for ``sync()``.
    package init(limit: Int = 256, isSynced: Bool) {
        precondition(limit > 0, "a log needs a descriptor")
        self.limit = limit
        self.isSynced = isSynced
    }

    deinit {
        for file in open { Glibc.close(file.descriptor) }
    }

    /// Whether something was written since the last ``sync()``.
    package var needsSync: Bool { !dirty.isEmpty || !dirtyDirectories.isEmpty }
    var openCount: Int { open.count }

    /// Flushes every file written since the last call to the disk, then the directories in which files appeared.
    ///
    /// - Throws: At the first refusal. What was not flushed stays remembered, but may be lost: the kernel reports a failed write once.
    package func sync() throws(LogFailure) {
        while let file = dirty.last {
            guard fdatasync(try descriptor(of: file, creating: false)) == 0 else { throw .system("flush", file.path, errno) }
            file.isDirty = false
            dirty.removeLast()
        }
        for directory in dirtyDirectories.sorted() {
            try syncDirectory(directory)
            dirtyDirectories.remove(directory)
        }
    }

    /// Writes at a position; the file is created where there is none.
    func write(_ file: LogFile, at position: Int, _ bytes: KafkaBytes) throws(LogFailure) {
        let descriptor = try descriptor(of: file, creating: true)
        markDirty(file)
        let code = bytes.withUnsafeBytes { bytes -> Int32 in
            var written = 0
            while written < bytes.count {
                let count = pwrite(descriptor, bytes.baseAddress! + written, bytes.count - written, off_t(position + written))
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return count < 0 ? errno : EIO }
                written += count
            }
            return 0
        }
        guard code == 0 else { throw .system("write", file.path, code) }
    }

    func read(_ file: LogFile, _ range: Range<Int>) throws(LogFailure) -> KafkaBytes {
        guard !range.isEmpty else { return .empty }
        let descriptor = try descriptor(of: file, creating: false)
        var code: Int32 = 0
        let bytes = KafkaBytes(count: range.count) { buffer in
            var filled = 0
            while filled < range.count {
                let got = pread(descriptor, buffer.baseAddress! + filled, range.count - filled, off_t(range.lowerBound + filled))
                if got < 0, errno == EINTR { continue }
                if got < 0 { code = errno }
                guard got > 0 else { break }
                filled += got
            }
            return filled
        }
        guard code == 0 else { throw .system("read", file.path, code) }
        guard bytes.count == range.count else { throw .damaged(file.path, "it ends before byte \(range.upperBound)") }
        return bytes
    }

    /// The size of a file; 0 where there is none.
    func size(_ file: LogFile) throws(LogFailure) -> Int {
        var status = stat()
        guard stat(file.path, &status) == 0 else {
            if errno == ENOENT { return 0 }
            throw .system("read", file.path, errno)
        }
        guard status.st_mode & S_IFMT == S_IFREG else { throw LogFailure(path: file.path, message: "not a file") }
        return Int(status.st_size)
    }

    /// Makes the file exist, empty.
    func create(_ file: LogFile) throws(LogFailure) { _ = try descriptor(of: file, creating: true) }

    func truncate(_ file: LogFile, to count: Int) throws(LogFailure) {
        guard ftruncate(try descriptor(of: file, creating: false), off_t(count)) == 0 else { throw .system("shorten", file.path, errno) }
        markDirty(file)
    }

    func remove(_ file: LogFile) throws(LogFailure) {
        close(file)
        forgetDirty(file)
        guard unlink(file.path) == 0 || errno == ENOENT else { throw .system("delete", file.path, errno) }
    }

    /// Makes a small file appear whole or not at all.
    func writeAtomically(_ path: String, _ bytes: [UInt8]) throws(LogFailure) {
        let temporary = LogFile(path: path + ".tmp")
        if try size(temporary) > 0 { try remove(temporary) }
        try write(temporary, at: 0, KafkaBytes(bytes))
        if isSynced {
            guard fdatasync(temporary.descriptor) == 0 else { throw .system("flush", temporary.path, errno) }
        }
        close(temporary)
        forgetDirty(temporary)
        guard rename(temporary.path, path) == 0 else { throw .system("rename to \(path)", temporary.path, errno) }
        if isSynced { dirtyDirectories.insert(parentDirectory(path)) }
    }

    /// A small file's bytes; nil where there is none.
    func readWhole(_ path: String) throws(LogFailure) -> [UInt8]? {
        let file = LogFile(path: path)
        guard access(path, F_OK) == 0 else { return nil }
        defer { close(file) }
        return try read(file, 0..<(try size(file))).array
    }

    /// Closes the descriptor; the next use opens it again.
    func close(_ file: LogFile) {
        guard file.descriptor >= 0 else { return }
        Glibc.close(file.descriptor)
        file.descriptor = -1
        open.removeAll { $0 === file }
    }

    private func markDirty(_ file: LogFile) {
        guard isSynced, !file.isDirty else { return }
        file.isDirty = true
        dirty.append(file)
    }

    private func forgetDirty(_ file: LogFile) {
        guard file.isDirty else { return }
        file.isDirty = false
        dirty.removeAll { $0 === file }
    }

    private func descriptor(of file: LogFile, creating: Bool) throws(LogFailure) -> Int32 {
        uses += 1
        file.lastUse = uses
        if file.descriptor >= 0 { return file.descriptor }
        if open.count >= limit, let oldest = open.min(by: { $0.lastUse < $1.lastUse }) { close(oldest) }
        var descriptor = Glibc.open(file.path, O_RDWR | O_CLOEXEC)
        if descriptor < 0, errno == ENOENT, creating {
            try makeDirectory(parentDirectory(file.path))
            descriptor = Glibc.open(file.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
            if isSynced { dirtyDirectories.insert(parentDirectory(file.path)) }
        }
        guard descriptor >= 0 else { throw .system("open", file.path, errno) }
        file.descriptor = descriptor
        open.append(file)
        return descriptor
    }

    /// Makes a directory and those above it.
    func makeDirectory(_ path: String) throws(LogFailure) {
        if mkdir(path, 0o755) == 0 {
            if isSynced { dirtyDirectories.insert(parentDirectory(path)) }
            return
        }
        switch errno {
        case EEXIST: return
        case ENOENT where parentDirectory(path) != path:
            try makeDirectory(parentDirectory(path))
            try makeDirectory(path)
        default: throw .system("make the directory", path, errno)
        }
    }

    private func syncDirectory(_ path: String) throws(LogFailure) {
        let directory = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        // A directory that was deleted meanwhile has nothing to keep.
        if directory < 0, errno == ENOENT { return }
        guard directory >= 0 else { throw .system("open", path, errno) }
        defer { Glibc.close(directory) }
        // Some file systems do not flush directories, and say so: they have nothing to flush.
        guard fsync(directory) == 0 || errno == EINVAL || errno == ENOTSUP else { throw .system("flush", path, errno) }
    }

    /// Names in a directory, sorted; none where there is no directory.
    static func list(_ path: String) throws(LogFailure) -> [String] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw .system("list", path, errno)
        }
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
        guard errno == 0 else { throw .system("list", path, errno) }
        return names.sorted()
    }

    /// Removes a directory and the files in it; a directory inside is refused by the system. One that is gone is no failure.
    func removeDirectory(_ path: String) throws(LogFailure) {
        for name in try Self.list(path) {
            guard unlink(path + "/" + name) == 0 || errno == ENOENT else { throw .system("delete", path + "/" + name, errno) }
        }
        guard rmdir(path) == 0 else {
            if errno == ENOENT { return }
            throw .system("delete", path, errno)
        }
        if isSynced { dirtyDirectories.insert(parentDirectory(path)) }
    }
}

/// What is above a path: "a/b" → "a", "a" → ".", "/a" → "/".
func parentDirectory(_ path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}
