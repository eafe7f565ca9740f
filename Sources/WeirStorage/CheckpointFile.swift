package import WeirBase

/// The frame of every file of a checkpoint, version 1 of proto-docs/checkpoint-format.md; all integers are little-endian.
///
///     | magic "WEIRCKPT": 8 bytes | version: u16 = 1 | kind: u8 | reserved: u8 = 0 | header crc: u32 |
///     | payload bytes: u64        | payload crc: u32 | reserved: u32 = 0           |
///     | payload |
///
/// `kind` is 1 for the state of a task, 2 for metadata. The header crc is CRC-32C of the 12 bytes before it, then of the 16 bytes
/// after it. The 32 bytes of the header keep their meaning in every version, so that a file of a later one is told from a damaged one.
package enum CheckpointFile {
    package enum Kind: UInt8, Sendable {
        case taskState = 1
        case metadata = 2
    }

    /// What is wrong with a file, in words.
    package struct Damage: Error, Equatable {
        package var problem: String
        init(_ problem: String) { self.problem = problem }
    }

    /// The name of metadata in the directory of its checkpoint.
    package static let metadataName = "_metadata"
    static let magic: [UInt8] = Array("WEIRCKPT".utf8)
    package static let version: UInt16 = 1
    package static let headerBytes = 32

    package static func header(_ kind: Kind, payloadBytes: Int, payloadCRC: UInt32, version: UInt16 = version) -> [UInt8] {
        var writer = ByteWriter(capacity: headerBytes)
        writer.writeBytes(magic)
        writer.writeU16(version)
        writer.writeU8(kind.rawValue)
        writer.writeU8(0)
        writer.writeU32(0)
        writer.writeU64(UInt64(payloadBytes))
        writer.writeU32(payloadCRC)
        writer.writeU32(0)
        writer.patchU32(writer.withBytes { headerCRC($0) }, at: 12)
        return writer.finish()
    }

    private static func headerCRC(_ header: UnsafeRawBufferPointer) -> UInt32 {
        let first = crc32c(UnsafeRawBufferPointer(rebasing: header[0..<12]))
        return crc32c(UnsafeRawBufferPointer(rebasing: header[16..<32]), seed: first)
    }

    /// Checks a whole file and returns its payload with its checksum.
    package static func payload(of file: consuming [UInt8], expecting kind: Kind) throws(Damage) -> (payload: [UInt8], crc: UInt32) {
        guard file.count >= headerBytes else { throw Damage("truncated: \(file.count) bytes, the header alone has \(headerBytes)") }
        guard file[0..<8].elementsEqual(magic) else { throw Damage("no checkpoint file: it does not start with WEIRCKPT") }
        let (fields, crc) = file.withUnsafeBytes { bytes in
            (Fields(bytes), headerCRC(UnsafeRawBufferPointer(rebasing: bytes[0..<headerBytes])))
        }
        guard crc == fields.headerCRC else { throw Damage("damaged: the header's checksum is wrong") }
        guard fields.version == version else {
            throw Damage("of format version \(fields.version); this build reads version \(version)")
        }
        guard let found = Kind(rawValue: fields.kind) else { throw Damage("of the unknown kind \(fields.kind)") }
        guard found == kind else { throw Damage("of the wrong kind: \(found), \(kind) expected") }
        let present = UInt64(file.count - headerBytes)
        guard present >= fields.payloadBytes else {
            throw Damage("truncated: \(present) bytes of payload, \(fields.payloadBytes) expected")
        }
        guard present == fields.payloadBytes else {
            throw Damage("damaged: \(present - fields.payloadBytes) bytes after its end")
        }
        let actual = file.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[headerBytes...])) }
        guard actual == fields.payloadCRC else { throw Damage("damaged: the payload's checksum is wrong") }
        // In place: state can be most of the memory there is.
        file.removeFirst(headerBytes)
        return (file, actual)
    }

    /// What a path holds: metadata is known by its name.
    package static func kind(of path: String) -> Kind { path == metadataName || path.hasSuffix("/" + metadataName) ? .metadata : .taskState }

    /// Writes a file, whole and durable when this returns. Its directory exists.
    ///
    /// - Returns: CRC-32C of the payload.
    /// - Throws: `JobFailure` (external) with the path and the system's words: a full disk, an error of the device.
    @discardableResult
    package static func write(
        _ payload: UnsafeRawBufferPointer, to path: String, files: some StorageFiles = SystemFiles(), retry: StorageRetry = .standard
    ) throws(JobFailure) -> UInt32 {
        let crc = crc32c(payload)
        let header = header(kind(of: path), payloadBytes: payload.count, payloadCRC: crc)
        do throws(FileFailure) {
            try retry.run { () throws(FileFailure) in
                try withBytes(header) { (header) throws(FileFailure) in try files.writeAtomically(path, [header, payload]) }
            }
        } catch {
            throw JobFailure(
                domain: .external, recovery: .restart, message: "cannot write the checkpoint file \(path)",
                cause: "\(error.operation) \(error.path): \(error.reason)")
        }
        return crc
    }

    @discardableResult
    package static func write(
        _ payload: [UInt8], to path: String, files: some StorageFiles = SystemFiles(), retry: StorageRetry = .standard
    ) throws(JobFailure) -> UInt32 {
        try withBytes(payload) { (payload) throws(JobFailure) in try write(payload, to: path, files: files, retry: retry) }
    }

    /// Reads a file and checks all of it.
    ///
    /// - Parameters:
    ///   - bytes: Those of the payload, as they were noted when it was written; nil where nobody noted them.
    ///   - crc: That of the payload: tells another whole file in its place from the one meant.
    /// - Throws: `JobFailure` (external) with the path and what is wrong: missing, truncated, damaged, another version or kind.
    package static func read(
        _ path: String, bytes: Int? = nil, crc: UInt32? = nil, files: some StorageFiles = SystemFiles(), retry: StorageRetry = .standard
    ) throws(JobFailure) -> [UInt8] {
        let file: [UInt8]
        do throws(FileFailure) { file = try retry.run { () throws(FileFailure) in try files.read(path) } } catch {
            guard error.isMissing else {
                throw JobFailure(
                    domain: .external, recovery: .restart, message: "cannot read the checkpoint file \(path)", cause: error.reason)
            }
            throw unusable(path, "missing")
        }
        let found: (payload: [UInt8], crc: UInt32)
        do throws(Damage) { found = try payload(of: file, expecting: kind(of: path)) } catch { throw unusable(path, error.problem) }
        guard found.payload.count == bytes ?? found.payload.count, found.crc == crc ?? found.crc else {
            throw unusable(path, "another file than the one that was acknowledged: \(found.payload.count) bytes, checksum \(found.crc)")
        }
        return found.payload
    }

    private static func unusable(_ path: String, _ problem: String) -> JobFailure {
        JobFailure(domain: .external, recovery: .fail, message: "the checkpoint file \(path) cannot be used", cause: problem)
    }

    private struct Fields {
        let version: UInt16
        let kind: UInt8
        let headerCRC: UInt32
        let payloadBytes: UInt64
        let payloadCRC: UInt32

        /// The buffer holds a header.
        init(_ bytes: UnsafeRawBufferPointer) {
            version = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt16.self))
            kind = bytes[10]
            headerCRC = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
            payloadBytes = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            payloadCRC = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt32.self))
        }
    }
}
