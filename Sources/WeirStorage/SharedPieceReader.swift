internal import WeirBase

/// Reads pieces of files, and checks them and the files' headers.
package struct SharedPieceReader {
    private let storage: CheckpointStorage
    private let files: [StoredState]
    private var checked: Set<Int> = []
    /// Read at once, where pieces follow each other.
    private static let runBytesMax = 16 << 20

    /// - Parameter files: Those of the handle, in the order of their numbers.
    package init(storage: CheckpointStorage, files: [StoredState]) {
        self.storage = storage
        self.files = files
    }

    /// - Throws: `JobFailure` that names the file; `DecodingFailure` for a piece that no file has.
    package mutating func read(_ pieces: [SharedPiece]) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(pieces.reduce(0) { $0 + Int($1.bytes) })
        var first = 0
        while first < pieces.count {
            var (end, length) = (first + 1, Int(pieces[first].bytes))
            while end < pieces.count, pieces[end].file == pieces[first].file, pieces[end].offset == pieces[first].offset + UInt64(length),
                length + Int(pieces[end].bytes) <= Self.runBytesMax
            {
                length += Int(pieces[end].bytes)
                end += 1
            }
            bytes += try readRun(pieces[first..<end], length)
            first = end
        }
        return bytes
    }

    private mutating func readRun(_ pieces: ArraySlice<SharedPiece>, _ length: Int) throws -> [UInt8] {
        guard let first = pieces.first else { return [] }
        guard first.file <= files.count else { throw DecodingFailure("a piece of file \(first.file) of \(files.count)", offset: 0) }
        let file = files[first.file - 1]
        if checked.insert(first.file).inserted { try storage.checkHeader(of: file) }
        guard first.offset <= UInt64(file.bytes), UInt64(file.bytes) - first.offset >= UInt64(length) else {
            throw DecodingFailure("a piece at \(first.offset) of \(length) bytes of \(file.path), which has \(file.bytes)", offset: 0)
        }
        let bytes = try storage.readPiece(of: file, offset: Int(first.offset), bytes: length)
        try bytes.withUnsafeBytes { raw in
            var start = 0
            for piece in pieces {
                let end = start + Int(piece.bytes)
                guard crc32c(UnsafeRawBufferPointer(rebasing: raw[start..<end])) == piece.crc else {
                    throw JobFailure(
                        domain: .external, recovery: .fail, message: "the checkpoint file \(file.path) cannot be used",
                        cause: "damaged: a wrong checksum of the \(piece.bytes) bytes at \(piece.offset)")
                }
                start = end
            }
        }
        return bytes
    }
}
