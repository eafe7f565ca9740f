package import WeirBase

/// The list states in the bytes of one subtask's state ("Task state" in `proto-docs/checkpoint-format.md`, version 1), for who needs neither keyed
/// state nor the runtime that writes it. Keyed state is passed over, and what it refers to in other files is not read.
package enum TaskStateLists {
    private static let version: UInt16 = 1

    /// The entries of a list, of all operators of the subtask.
    ///
    /// - Throws: ``DecodingFailure`` for bytes that are no task state.
    package static func entries(of name: String, in bytes: [UInt8]) throws(DecodingFailure) -> [[UInt8]] {
        guard !bytes.isEmpty else { return [] }
        var result: Result<[[UInt8]], DecodingFailure> = .success([])
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                let entries = try entries(of: name, from: &reader)
                try reader.expectEnd()
                result = .success(entries)
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    private static func entries(of name: String, from reader: inout ByteReader) throws(DecodingFailure) -> [[UInt8]] {
        let found = try reader.readU16()
        guard found == version else { throw DecodingFailure("task state version \(found), this build reads \(version)", offset: 0) }
        var entries: [[UInt8]] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
            _ = try reader.readU64()
            for _ in 0..<(try reader.readCount(ofAtLeast: 10)) { try skipKeyed(&reader) }
            for _ in 0..<(try reader.readCount(ofAtLeast: 2)) {
                let isWanted = try reader.readString() == name
                for _ in 0..<(try reader.readCount()) {
                    let entry = try reader.readBytes(try reader.readCount())
                    if isWanted { entries.append([UInt8](entry)) }
                }
            }
        }
        return entries
    }

    private static func skipKeyed(_ reader: inout ByteReader) throws(DecodingFailure) {
        _ = try reader.readString()
        _ = try reader.readU32()
        _ = try reader.readU32()
        for _ in 0..<(try reader.readCount(ofAtLeast: 5)) {
            // In a file of an earlier checkpoint: its offset, length and checksum. Else here.
            let isElsewhere = try reader.readCount(ofAtLeast: 0) > 0
            _ = try reader.readBytes(isElsewhere ? 16 : Int(try reader.readU32()))
        }
    }
}
