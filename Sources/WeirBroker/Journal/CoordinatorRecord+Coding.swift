import WeirBase

/// How records of the coordinators stand in the journal, version 1: `proto-docs/broker.md` has the table.
extension CoordinatorRecord {
    private enum Kind: UInt8 {
        case producerIDs = 1
        case transaction = 2
        case transactionRemoved = 3
        case group = 4
        case groupRemoved = 5
        case offsets = 6
        case offsetsRemoved = 7
        case pendingOffsets = 8
        case pendingCompleted = 9
    }

    func encode(to writer: inout ByteWriter) {
        func kind(_ kind: Kind) { writer.writeU8(kind.rawValue) }
        switch self {
        case .producerIDs(let below):
            kind(.producerIDs)
            writer.writeI64(below)
        case .transaction(let transaction):
            kind(.transaction)
            transaction.encode(to: &writer)
        case .transactionRemoved(let id):
            kind(.transactionRemoved)
            writer.writeString(id)
        case .group(let group):
            kind(.group)
            group.encode(to: &writer)
        case .groupRemoved(let id):
            kind(.groupRemoved)
            writer.writeString(id)
        case .offsets(let group, let offsets):
            kind(.offsets)
            writer.writeString(group)
            writer.write(offsets)
        case .offsetsRemoved(let group, let partitions):
            kind(.offsetsRemoved)
            writer.writeString(group)
            writer.write(partitions)
        case .pendingOffsets(let group, let producerID, let offsets):
            kind(.pendingOffsets)
            writer.writeString(group)
            writer.writeI64(producerID)
            writer.write(offsets)
        case .pendingCompleted(let group, let producerID, let commit):
            kind(.pendingCompleted)
            writer.writeString(group)
            writer.writeI64(producerID)
            writer.writeU8(commit ? 1 : 0)
        }
    }

    /// Reads a whole record; more bytes behind it are an error.
    init(from reader: inout ByteReader) throws(DecodingFailure) {
        guard let kind = Kind(rawValue: try reader.readU8()) else { throw DecodingFailure("an unknown kind of record", offset: 0) }
        switch kind {
        case .producerIDs: self = .producerIDs(below: try reader.readI64())
        case .transaction: self = .transaction(try TransactionMetadata(from: &reader))
        case .transactionRemoved: self = .transactionRemoved(try reader.readString())
        case .group: self = .group(try GroupSnapshot(from: &reader))
        case .groupRemoved: self = .groupRemoved(try reader.readString())
        case .offsets: self = .offsets(group: try reader.readString(), try reader.readOffsets())
        case .offsetsRemoved: self = .offsetsRemoved(group: try reader.readString(), try reader.readPartitions())
        case .pendingOffsets:
            self = .pendingOffsets(group: try reader.readString(), producerID: try reader.readI64(), try reader.readOffsets())
        case .pendingCompleted:
            self = .pendingCompleted(group: try reader.readString(), producerID: try reader.readI64(), commit: try reader.readFlag())
        }
        try reader.expectEnd()
    }
}

extension TransactionMetadata {
    fileprivate func encode(to writer: inout ByteWriter) {
        writer.writeString(transactionalID)
        writer.writeI64(producerID)
        writer.writeU16(UInt16(bitPattern: epoch))
        writer.writeI64(lastProducerID)
        writer.writeU16(UInt16(bitPattern: lastEpoch))
        writer.writeI32(timeoutMilliseconds)
        writer.writeU8(state.rawValue)
        writer.writeI64(startedAt?.milliseconds ?? -1)
        writer.writeI64(updatedAt.milliseconds)
        writer.write(partitions.sorted())
        writer.writeVarint(UInt64(groups.count))
        for group in groups.sorted() { writer.writeString(group) }
    }

    fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
        let id = try reader.readString()
        let producerID = try reader.readI64()
        let epoch = Int16(bitPattern: try reader.readU16())
        let lastProducerID = try reader.readI64()
        let lastEpoch = Int16(bitPattern: try reader.readU16())
        let timeout = try reader.readI32()
        guard let state = TransactionState(rawValue: try reader.readU8()) else {
            throw DecodingFailure("an unknown state of a transaction", offset: reader.position - 1)
        }
        let startedAt = try reader.readI64()
        let updatedAt = WallTime(milliseconds: try reader.readI64())
        let partitions = Set(try reader.readPartitions())
        var groups: Set<String> = []
        for _ in 0..<(try reader.readCount()) { groups.insert(try reader.readString()) }
        self.init(
            transactionalID: id, producerID: producerID, epoch: epoch, lastProducerID: lastProducerID, lastEpoch: lastEpoch,
            timeoutMilliseconds: timeout, state: state, partitions: partitions, groups: groups,
            startedAt: startedAt < 0 ? nil : WallTime(milliseconds: startedAt), updatedAt: updatedAt)
    }
}

extension GroupSnapshot {
    fileprivate func encode(to writer: inout ByteWriter) {
        writer.writeString(id)
        writer.writeI32(generation)
        writer.writeString(protocolType)
        writer.write(protocolName)
        writer.write(leaderID)
        writer.writeI64(stateSince.milliseconds)
        writer.writeVarint(UInt64(members.count))
        for member in members {
            writer.writeString(member.id)
            writer.write(member.instanceID)
            writer.writeString(member.clientID)
            writer.writeString(member.clientHost)
            writer.writeI64(member.sessionTimeout.inMilliseconds)
            writer.writeI64(member.rebalanceTimeout.inMilliseconds)
            writer.writeVarint(UInt64(member.metadata.count))
            writer.writeBytes(member.metadata)
            writer.writeVarint(UInt64(member.assignment.count))
            writer.writeBytes(member.assignment)
        }
    }

    fileprivate init(from reader: inout ByteReader) throws(DecodingFailure) {
        let id = try reader.readString()
        let generation = try reader.readI32()
        let protocolType = try reader.readString()
        let protocolName = try reader.readOptionalString()
        let leaderID = try reader.readOptionalString()
        let stateSince = WallTime(milliseconds: try reader.readI64())
        var members: [Member] = []
        for _ in 0..<(try reader.readCount()) {
            members.append(
                Member(
                    id: try reader.readString(), instanceID: try reader.readOptionalString(), clientID: try reader.readString(),
                    clientHost: try reader.readString(), sessionTimeout: .milliseconds(try reader.readI64()),
                    rebalanceTimeout: .milliseconds(try reader.readI64()), metadata: try reader.readByteArray(),
                    assignment: try reader.readByteArray()))
        }
        self.init(
            id: id, generation: generation, protocolType: protocolType, protocolName: protocolName, leaderID: leaderID, stateSince: stateSince,
            members: members)
    }
}

extension ByteWriter {
    fileprivate mutating func write(_ text: String?) {
        writeU8(text == nil ? 0 : 1)
        if let text { writeString(text) }
    }

    fileprivate mutating func write(_ partition: TopicPartition) {
        writeString(partition.topic)
        writeI32(partition.partition)
    }

    fileprivate mutating func write(_ partitions: [TopicPartition]) {
        writeVarint(UInt64(partitions.count))
        for partition in partitions { write(partition) }
    }

    fileprivate mutating func write(_ offsets: [TopicPartition: CommittedOffset]) {
        writeVarint(UInt64(offsets.count))
        for (partition, value) in offsets.sorted(by: { $0.key < $1.key }) {
            write(partition)
            writeI64(value.offset)
            writeI32(value.leaderEpoch)
            writeString(value.metadata)
            writeI64(value.committedAt.milliseconds)
            writeI64(value.expiresAt?.milliseconds ?? -1)
        }
    }
}

extension ByteReader {
    fileprivate mutating func readFlag() throws(DecodingFailure) -> Bool {
        switch try readU8() {
        case 0: return false
        case 1: return true
        case let other: throw DecodingFailure("a flag of \(other)", offset: position - 1)
        }
    }

    fileprivate mutating func readOptionalString() throws(DecodingFailure) -> String? { try readFlag() ? try readString() : nil }

    fileprivate mutating func readByteArray() throws(DecodingFailure) -> [UInt8] { [UInt8](try readBytes(try readCount())) }

    fileprivate mutating func readPartition() throws(DecodingFailure) -> TopicPartition {
        TopicPartition(topic: try readString(), partition: try readI32())
    }

    fileprivate mutating func readPartitions() throws(DecodingFailure) -> [TopicPartition] {
        var partitions: [TopicPartition] = []
        for _ in 0..<(try readCount(ofAtLeast: 5)) { partitions.append(try readPartition()) }
        return partitions
    }

    fileprivate mutating func readOffsets() throws(DecodingFailure) -> [TopicPartition: CommittedOffset] {
        var offsets: [TopicPartition: CommittedOffset] = [:]
        for _ in 0..<(try readCount(ofAtLeast: 34)) {
            let partition = try readPartition()
            var value = CommittedOffset(offset: try readI64(), committedAt: WallTime(milliseconds: 0))
            value.leaderEpoch = try readI32()
            value.metadata = try readString()
            value.committedAt = WallTime(milliseconds: try readI64())
            let expiresAt = try readI64()
            value.expiresAt = expiresAt < 0 ? nil : WallTime(milliseconds: expiresAt)
            offsets[partition] = value
        }
        return offsets
    }
}
