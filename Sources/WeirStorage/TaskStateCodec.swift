package import WeirBase
package import WeirDataflow

/// The state of one operator of one subtask, as read from a checkpoint.
package struct EncodedOperatorState: Sendable {
    package var operatorID: OperatorID
    package var keyed: [RestoredState.Keyed] = []
    package var lists: [String: [[UInt8]]] = [:]

    package init(operatorID: OperatorID) { self.operatorID = operatorID }
}

/// The bytes of one subtask's state: version 1 of "Task state" in `proto-docs/checkpoint-format.md`, all integers little-endian.
///
///     | version: u16 | operators: varint | operator … |
///     operator  | id: u64 | keyed: varint | keyed … | lists: varint | list … |
///     keyed     | name: string | first key group: u32 | end key group: u32 | bytes: u32 | bytes … |
///     list      | name: string | entries: varint | entry: varint length, bytes … |
///
/// Checksums are the file's, or the RPC's connection's for state that travels inline.
package enum TaskStateCodec {
    private static let version: UInt16 = 1

    /// Runs the encoding of every part: off the slot's thread. A subtask without state gives no bytes at all.
    ///
    /// - Parameter snapshot: With nothing deferred: see `TaskSnapshot.resolve(_:)`.
    package static func encode(_ snapshot: TaskSnapshot) throws(JobFailure) -> [UInt8] {
        precondition(snapshot.operators.allSatisfy(\.deferred.isEmpty), "deferred state is resolved before it is encoded")
        let operators = snapshot.operators.filter { !$0.keyed.isEmpty || !$0.operatorState.isEmpty }
        guard !operators.isEmpty else { return [] }
        var writer = ByteWriter(capacity: 64 << 10)
        writer.writeU16(version)
        writer.writeVarint(UInt64(operators.count))
        for state in operators {
            writer.writeU64(state.operatorID.rawValue)
            writer.writeVarint(UInt64(state.keyed.count))
            for part in state.keyed {
                writer.writeString(part.name)
                writer.writeU32(UInt32(part.keyGroups.lowerBound))
                writer.writeU32(UInt32(part.keyGroups.upperBound))
                let lengthAt = writer.count
                writer.writeU32(0)
                part.part.encode(into: &writer)
                guard let length = UInt32(exactly: writer.count - lengthAt - 4) else {
                    throw JobFailure(
                        domain: .resource, recovery: .restart, message: "state \"\(part.name)\" of one subtask has more than 4 GiB",
                        cause: "raise the parallelism of the operator")
                }
                writer.patchU32(length, at: lengthAt)
            }
            writer.writeVarint(UInt64(state.operatorState.count))
            for (name, entries) in state.operatorState.sorted(by: { $0.key < $1.key }) {
                writer.writeString(name)
                writer.writeVarint(UInt64(entries.count))
                for entry in entries {
                    writer.writeVarint(UInt64(entry.count))
                    writer.writeBytes(entry)
                }
            }
        }
        return writer.finish()
    }

    package static func decode(_ bytes: [UInt8]) throws(DecodingFailure) -> [EncodedOperatorState] {
        guard !bytes.isEmpty else { return [] }
        var result: Result<[EncodedOperatorState], DecodingFailure> = .success([])
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                let operators = try decode(&reader)
                try reader.expectEnd()
                result = .success(operators)
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    private static func decode(_ reader: inout ByteReader) throws(DecodingFailure) -> [EncodedOperatorState] {
        let found = try reader.readU16()
        guard found == version else { throw DecodingFailure("task state version \(found), this build reads \(version)", offset: 0) }
        var operators: [EncodedOperatorState] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
            var state = EncodedOperatorState(operatorID: OperatorID(try reader.readU64()))
            for _ in 0..<(try reader.readCount(ofAtLeast: 13)) {
                let name = try reader.readString()
                let offset = reader.position
                let first = try reader.readU32()
                let end = try reader.readU32()
                guard first <= end else { throw DecodingFailure("key groups \(first)..<\(end)", offset: offset) }
                let length = try reader.readU32()
                state.keyed.append(
                    RestoredState.Keyed(name: name, keyGroups: Int(first)..<Int(end), bytes: [UInt8](try reader.readBytes(Int(length)))))
            }
            for _ in 0..<(try reader.readCount(ofAtLeast: 2)) {
                let name = try reader.readString()
                var entries: [[UInt8]] = []
                for _ in 0..<(try reader.readCount()) { entries.append([UInt8](try reader.readBytes(try reader.readCount()))) }
                state.lists[name] = entries
            }
            operators.append(state)
        }
        return operators
    }
}
