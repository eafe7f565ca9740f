package import WeirBase
package import WeirDataflow

/// The state of one operator of one subtask, as read from a checkpoint.
package struct EncodedOperatorState: Sendable {
    package var operatorID: OperatorID
    package var keyed: [RestoredState.Keyed] = []
    package var lists: [String: [[UInt8]]] = [:]

    package init(operatorID: OperatorID) { self.operatorID = operatorID }
}

/// The bytes of one subtask's state, and what they refer to.
package struct EncodedTaskState {
    package var bytes: [UInt8] = []
    /// Files of earlier checkpoints, in the order of their numbers.
    package var shared: [StoredState] = []
    /// Pages that the bytes refer to.
    package var referred: [PageKey: PageLocation] = [:]
    /// Pages within the bytes: offset and checksum.
    package var written: [PageKey: (offset: UInt64, bytes: UInt32, crc: UInt32)] = [:]
}

/// A piece of a file of an earlier checkpoint, of the file with that number in the handle (from 1).
package struct SharedPiece: Sendable, Equatable {
    package var file: Int
    package var offset: UInt64
    package var bytes: UInt32
    package var crc: UInt32
}

/// The bytes of one subtask's state: version 1 of "Task state" in `proto-docs/checkpoint-format.md`, all integers little-endian.
///
///     | version: u16 | operators: varint | operator … |
///     operator  | id: u64 | keyed: varint | keyed … | lists: varint | list … |
///     keyed     | name: string | first key group: u32 | end key group: u32 | parts: varint | part … |
///     part      | file: varint = 0 | bytes: u32 | bytes … |
///               | file: varint > 0 | offset: u64 | bytes: u32 | crc: u32 |
///     list      | name: string | entries: varint | entry: varint length, bytes … |
///
/// Checksums are the file's, or the RPC's connection's for state that travels inline.
package enum TaskStateCodec {
    private static let version: UInt16 = 1

    /// Runs the encoding of every part: off the slot's thread. A subtask without state gives no bytes at all. Nothing is shared.
    ///
    /// - Parameter snapshot: With nothing deferred: see `TaskSnapshot.resolve(_:)`.
    package static func encode(_ snapshot: TaskSnapshot) throws(JobFailure) -> [UInt8] { try encode(snapshot, sharing: nil).bytes }

    /// - Parameter pages: Pages that need not be written again; nil for a snapshot that stands for itself, of which none will be shared either:
    ///   it is without what has expired.
    package static func encode(_ snapshot: TaskSnapshot, sharing pages: [PageKey: PageLocation]?) throws(JobFailure) -> EncodedTaskState {
        precondition(snapshot.operators.allSatisfy(\.deferred.isEmpty), "deferred state is resolved before it is encoded")
        let operators = snapshot.operators.filter { !$0.keyed.isEmpty || !$0.operatorState.isEmpty }
        guard !operators.isEmpty else { return EncodedTaskState() }
        var encoder = TaskStateEncoder(sharing: pages, of: operators)
        encoder.writer.writeU16(version)
        encoder.writer.writeVarint(UInt64(operators.count))
        for state in operators {
            encoder.writer.writeU64(state.operatorID.rawValue)
            encoder.writer.writeVarint(UInt64(state.keyed.count))
            for part in state.keyed { try encoder.write(part, of: state.operatorID) }
            encoder.writer.writeVarint(UInt64(state.operatorState.count))
            for (name, entries) in state.operatorState.sorted(by: { $0.key < $1.key }) {
                encoder.writer.writeString(name)
                encoder.writer.writeVarint(UInt64(entries.count))
                for entry in entries {
                    encoder.writer.writeVarint(UInt64(entry.count))
                    encoder.writer.writeBytes(entry)
                }
            }
        }
        return encoder.finish()
    }

    /// - Parameter read: Reads pieces of earlier files, in order; by default there are none to read.
    /// - Throws: ``DecodingFailure`` for bytes that are no task state, and what `read` throws.
    package static func decode(
        _ bytes: [UInt8], reading read: ([SharedPiece]) throws -> [UInt8] = { throw DecodingFailure("\($0.count) pieces of other files", offset: 0) }
    ) throws -> [EncodedOperatorState] {
        guard !bytes.isEmpty else { return [] }
        return try bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            let operators = try decode(&reader, read)
            try reader.expectEnd()
            return operators
        }
    }

    private static func decode(_ reader: inout ByteReader, _ read: ([SharedPiece]) throws -> [UInt8]) throws -> [EncodedOperatorState] {
        let found = try reader.readU16()
        guard found == version else { throw DecodingFailure("task state version \(found), this build reads \(version)", offset: 0) }
        var operators: [EncodedOperatorState] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
            var state = EncodedOperatorState(operatorID: OperatorID(try reader.readU64()))
            for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
                let name = try reader.readString()
                let offset = reader.position
                let first = try reader.readU32()
                let end = try reader.readU32()
                guard first <= end else { throw DecodingFailure("key groups \(first)..<\(end)", offset: offset) }
                state.keyed.append(
                    RestoredState.Keyed(name: name, keyGroups: Int(first)..<Int(end), bytes: try decodeParts(&reader, read)))
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

    /// The parts of a state one behind the other. Pieces that follow each other are read together.
    private static func decodeParts(_ reader: inout ByteReader, _ read: ([SharedPiece]) throws -> [UInt8]) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var pieces: [SharedPiece] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 5)) {
            let file = try reader.readCount(ofAtLeast: 0)
            if file > 0 {
                pieces.append(SharedPiece(file: file, offset: try reader.readU64(), bytes: try reader.readU32(), crc: try reader.readU32()))
                continue
            }
            if !pieces.isEmpty { bytes += try read(pieces) }
            pieces = []
            bytes += try reader.readBytes(Int(try reader.readU32()))
        }
        if !pieces.isEmpty { bytes += try read(pieces) }
        return bytes
    }
}

/// Writes keyed state as parts, and remembers where its pages come to lie.
private struct TaskStateEncoder {
    var writer = ByteWriter(capacity: 64 << 10)
    private let pages: [PageKey: PageLocation]
    private let isWhole: Bool
    private let outworn: Set<StoredState>
    private var state = EncodedTaskState()
    private var numbers: [StoredState: Int] = [:]

    init(sharing pages: [PageKey: PageLocation]?, of operators: [OperatorSnapshot]) {
        isWhole = pages == nil
        let pages = pages ?? [:]
        self.pages = pages
        var used: [StoredState: Int] = [:]
        if !pages.isEmpty {
            for state in operators {
                for part in state.keyed {
                    part.part.forEachPiece { piece in
                        guard let version = piece.version,
                            let location = pages[PageKey(operatorID: state.operatorID, state: part.name, version: version)]
                        else { return }
                        used[location.file, default: 0] += Int(location.bytes)
                    }
                }
            }
        }
        outworn = SharedPages.outworn(used)
    }

    mutating func write(_ part: KeyedStateSnapshot, of operatorID: OperatorID) throws(JobFailure) {
        writer.writeString(part.name)
        writer.writeU32(UInt32(part.keyGroups.lowerBound))
        writer.writeU32(UInt32(part.keyGroups.upperBound))
        // The number of parts is known at the end, and is a varint: they are written behind it, to a writer that knows where it stands.
        var parts = PartWriter(pages: pages, outworn: outworn, operatorID: operatorID, name: part.name, numbers: numbers, shared: state.shared)
        if isWhole {
            parts.add(StatePiece(version: nil, bytes: 0) { part.part.encode(into: &$0) })
        } else {
            part.part.forEachPiece { parts.add($0) }
        }
        try parts.close()
        writer.writeVarint(UInt64(parts.count))
        let start = UInt64(writer.count)
        parts.writer.withBytes { writer.writeBytes($0) }
        numbers = parts.numbers
        state.shared = parts.shared
        state.referred.merge(parts.referred) { _, new in new }
        for (key, place) in parts.written { state.written[key] = (start + place.offset, place.bytes, place.crc) }
    }

    consuming func finish() -> EncodedTaskState {
        state.bytes = writer.finish()
        return state
    }
}

/// The parts of one state.
private struct PartWriter {
    let pages: [PageKey: PageLocation]
    let outworn: Set<StoredState>
    let operatorID: OperatorID
    let name: String
    var numbers: [StoredState: Int]
    var shared: [StoredState]
    var writer = ByteWriter(capacity: 64 << 10)
    var count = 0
    var referred: [PageKey: PageLocation] = [:]
    var written: [PageKey: (offset: UInt64, bytes: UInt32, crc: UInt32)] = [:]
    /// Where the length of the part at hand is to be written.
    private var lengthAt: Int?
    private var isTooLarge = false
    /// A part's length has 32 bits.
    private static let partBytesMax = 1 << 30

    init(
        pages: [PageKey: PageLocation], outworn: Set<StoredState>, operatorID: OperatorID, name: String, numbers: [StoredState: Int],
        shared: [StoredState]
    ) {
        self.pages = pages
        self.outworn = outworn
        self.operatorID = operatorID
        self.name = name
        self.numbers = numbers
        self.shared = shared
    }

    mutating func add(_ piece: StatePiece) {
        let key = piece.version.map { PageKey(operatorID: operatorID, state: name, version: $0) }
        if let key, let location = pages[key], !outworn.contains(location.file) { return refer(to: location, key) }
        if let lengthAt, writer.count - lengthAt > Self.partBytesMax { endPart() }
        if lengthAt == nil {
            writer.writeVarint(0)
            lengthAt = writer.count
            writer.writeU32(0)
            count += 1
        }
        let start = writer.count
        piece.encode(&writer)
        guard let key else { return }
        let bytes = writer.count - start
        let crc = writer.withBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        if bytes > 0 { written[key] = (UInt64(start), UInt32(clamping: bytes), crc) }
    }

    private mutating func refer(to location: PageLocation, _ key: PageKey) {
        endPart()
        let number: Int
        if let known = numbers[location.file] {
            number = known
        } else {
            shared.append(location.file)
            number = shared.count
            numbers[location.file] = number
        }
        writer.writeVarint(UInt64(number))
        writer.writeU64(location.offset)
        writer.writeU32(location.bytes)
        writer.writeU32(location.crc)
        count += 1
        referred[key] = location
    }

    private mutating func endPart() {
        guard let lengthAt else { return }
        if let length = UInt32(exactly: writer.count - lengthAt - 4) { writer.patchU32(length, at: lengthAt) } else { isTooLarge = true }
        self.lengthAt = nil
    }

    mutating func close() throws(JobFailure) {
        endPart()
        guard isTooLarge else { return }
        throw JobFailure(
            domain: .resource, recovery: .restart, message: "a single value of state \"\(name)\" has more than 4 GiB",
            cause: "keep less under one key")
    }
}
