import Glibc
import WeirBase

/// A part of a file that one subtask reads: the lines that begin in `start..<end`.
struct FileRange: Equatable, Sendable {
    var path: String
    var start: Int64
    /// At least one more than ``start``; `Int64.max` for a part that goes to the end of the file, wherever that is then.
    var end: Int64
    /// Where the next line begins; equal to ``start`` as long as none was read, wherever the first one begins then.
    var next: Int64
    var isFinished = false

    init(path: String, start: Int64, end: Int64, next: Int64? = nil) {
        self.path = path
        self.start = start
        self.end = end
        self.next = next ?? start
    }

    /// Whether ``next`` is the beginning of a line, and not just a place in one.
    var isAligned: Bool { next > start || start == 0 }

    /// The parts of a file of `bytes` bytes: every `splitBytes`, the last one open-ended.
    static func split(path: String, bytes: Int64, splitBytes: Int64) -> [FileRange] {
        guard bytes > 0 else { return [] }
        return stride(from: Int64(0), to: bytes, by: Int64.Stride(splitBytes)).map { start in
            FileRange(path: path, start: start, end: bytes - start <= splitBytes ? .max : start + splitBytes)
        }
    }
}

/// The state of a source of files: what is still to be read.
///
/// One entry says that a list was made, so that a source which has read everything is not taken for one that never began:
///
///     | kind: u8 = 0 |
///
/// and one entry a file and subtask has its unfinished parts:
///
///     | kind: u8 = 1 | path: varint length, UTF-8 | count: varint | count times: start: i64, end: i64, next: i64 |
///
/// Integers are little-endian.
enum FileRangeState {
    static let name = "files.ranges"

    static func encode(_ ranges: [FileRange]) -> [[UInt8]] {
        var entries: [[UInt8]] = [[0]]
        var rest = ranges.filter { !$0.isFinished }[...]
        while let path = rest.first?.path {
            let parts = rest.prefix { $0.path == path }
            rest = rest.dropFirst(parts.count)
            var writer = ByteWriter(capacity: 32 + path.utf8.count + 24 * parts.count)
            writer.writeU8(1)
            writer.writeString(path)
            writer.writeVarint(UInt64(parts.count))
            for part in parts {
                writer.writeI64(part.start)
                writer.writeI64(part.end)
                writer.writeI64(part.next)
            }
            entries.append(writer.finish())
        }
        return entries
    }

    /// - Returns: All parts, sorted by path and start; nil if no list was ever made.
    /// - Throws: `DecodingFailure`.
    static func decode(_ entries: [[UInt8]]) throws -> [FileRange]? {
        guard !entries.isEmpty else { return nil }
        var ranges: [FileRange] = []
        for entry in entries {
            try entry.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                let kind = try reader.readU8()
                guard kind <= 1 else { throw DecodingFailure("an entry of kind \(kind)", offset: 0) }
                if kind == 1 {
                    let path = try reader.readString()
                    for _ in 0..<(try reader.readCount(ofAtLeast: 24)) {
                        let start = try reader.readI64()
                        let end = try reader.readI64()
                        let next = try reader.readI64()
                        guard start >= 0, end > start, next >= start else {
                            throw DecodingFailure("the part \(start)..<\(end) at \(next) of \(path)", offset: reader.position)
                        }
                        ranges.append(FileRange(path: path, start: start, end: end, next: next))
                    }
                }
                try reader.expectEnd()
            }
        }
        return ranges.sorted { ($0.path, $0.start) < ($1.path, $1.start) }
    }
}

/// Finds the files that a path, a directory or a pattern means.
enum FileListing {
    static let filesMax = 1_000_000

    /// - Returns: Paths and sizes of regular files, sorted by path.
    /// - Throws: What is missing or unreadable.
    static func list(_ path: String) throws(JobFailure) -> [(path: String, bytes: Int64)] {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else { return [try check(path, status)] }
            return try listDirectory(path)
        }
        let code = errno
        guard path.utf8.contains(where: { $0 == UInt8(ascii: "*") || $0 == UInt8(ascii: "?") || $0 == UInt8(ascii: "[") }) else {
            throw fileFailure("cannot read \"\(path)\": give a file, a directory or a pattern that is there", code, recovery: .fail)
        }
        return try listPattern(path)
    }

    private static func check(_ path: String, _ status: stat) throws(JobFailure) -> (path: String, bytes: Int64) {
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw JobFailure(domain: .external, recovery: .fail, message: "\"\(path)\" is no regular file: only those can be read again")
        }
        guard access(path, R_OK) == 0 else { throw fileFailure("cannot read \"\(path)\"", errno, recovery: .fail) }
        return (path, Int64(status.st_size))
    }

    private static func listDirectory(_ path: String) throws(JobFailure) -> [(path: String, bytes: Int64)] {
        guard let directory = opendir(path) else { throw fileFailure("cannot list the directory \"\(path)\"", errno, recovery: .fail) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: entry.pointee.d_name)) { String(cString: $0) }
            }
            // Hidden files, and those that writers have not finished, by common agreement.
            if !name.hasPrefix("."), !name.hasPrefix("_") { names.append(name) }
            guard names.count <= filesMax else { throw tooMany(path) }
        }
        var files: [(path: String, bytes: Int64)] = []
        for name in names.sorted() {
            let file = path.hasSuffix("/") ? path + name : "\(path)/\(name)"
            var status = stat()
            guard stat(file, &status) == 0 else { throw fileFailure("cannot read \"\(file)\"", errno, recovery: .fail) }
            if status.st_mode & S_IFMT != S_IFDIR { files.append(try check(file, status)) }
        }
        return files
    }

    private static func listPattern(_ pattern: String) throws(JobFailure) -> [(path: String, bytes: Int64)] {
        var found = glob_t()
        defer { globfree(&found) }
        let result = glob(pattern, 0, nil, &found)
        guard result == 0 || result == GLOB_NOMATCH else {
            throw JobFailure(domain: .external, recovery: .fail, message: "cannot look for files like \"\(pattern)\"")
        }
        guard found.gl_pathc <= filesMax else { throw tooMany(pattern) }
        var paths: [String] = []
        for index in 0..<Int(found.gl_pathc) { if let path = found.gl_pathv[index] { paths.append(String(cString: path)) } }
        var files: [(path: String, bytes: Int64)] = []
        for path in paths.sorted() {
            var status = stat()
            guard stat(path, &status) == 0 else { throw fileFailure("cannot read \"\(path)\"", errno, recovery: .fail) }
            if status.st_mode & S_IFMT != S_IFDIR { files.append(try check(path, status)) }
        }
        guard !files.isEmpty else {
            throw JobFailure(domain: .external, recovery: .fail, message: "no file is like \"\(pattern)\"")
        }
        return files
    }

    private static func tooMany(_ path: String) -> JobFailure {
        JobFailure(domain: .resource, recovery: .fail, message: "more than \(filesMax) files in \"\(path)\": read them in parts")
    }
}
