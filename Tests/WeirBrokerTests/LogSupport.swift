import Glibc
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// A directory of its own for one test, removed with it.
final class TestDirectory: Sendable {
    let path: String
    init() {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/weir-broker-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "no temporary directory")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit { remove(path) }

    private func remove(_ path: String) {
        guard Glibc.remove(path) != 0, let names = try? OpenFiles.list(path) else { return }
        for name in names { remove(path + "/" + name) }
        Glibc.remove(path)
    }

    func names(in directory: String) throws -> [String] { try OpenFiles.list(path + "/" + directory) }

    /// Writes over a file's bytes from a position on.
    func overwrite(_ name: String, at position: Int, with bytes: [UInt8]) {
        let file = Glibc.open(path + "/" + name, O_WRONLY)
        precondition(file >= 0 && pwrite(file, bytes, bytes.count, off_t(position)) == bytes.count, "cannot write \(name)")
        close(file)
    }

    func append(_ name: String, _ bytes: [UInt8]) { overwrite(name, at: size(name), with: bytes) }

    func size(_ name: String) -> Int {
        var status = stat()
        return stat(path + "/" + name, &status) == 0 ? Int(status.st_size) : -1
    }

    func truncate(_ name: String, by bytes: Int) { precondition(Glibc.truncate(path + "/" + name, off_t(size(name) - bytes)) == 0, name) }
    func delete(_ name: String) { precondition(unlink(path + "/" + name) == 0, name) }
}

/// A producer as a client sees one: an id, an epoch and the next sequence number.
struct TestProducer {
    var id: Int64
    var epoch: Int16 = 0
    var next: Int32 = 0
    var isTransactional = true

    /// The next batch of `count` records.
    mutating func batch(_ count: Int = 1, timestamp: Int64 = 1_000, value: String = "v") -> KafkaBytes {
        defer { next += Int32(count) }
        return WeirBrokerTests.batch(
            count, timestamp: timestamp, value: value, attributes: isTransactional ? 16 : 0, producerID: id, epoch: epoch, sequence: next)
    }
}

/// A batch whose records' timestamps are one millisecond apart.
func batch(
    _ count: Int = 1, timestamp: Int64 = 1_000, value: String = "v", attributes: Int16 = 0, producerID: Int64 = -1, epoch: Int16 = -1,
    sequence: Int32 = -1
) -> KafkaBytes {
    let records = (0..<count).map { index in
        BatchRecord(key: KafkaBytes(Array("k\(index)".utf8)), value: KafkaBytes(Array(value.utf8)), timestamp: timestamp + Int64(index))
    }
    return RecordBatch.build(records, attributes: attributes, producerID: producerID, producerEpoch: epoch, baseSequence: sequence)
}

/// Overwrites part of a batch and makes its checksum right again.
func altered<T: FixedWidthInteger & BitwiseCopyable>(_ batch: KafkaBytes, _ value: T, at offset: Int) -> KafkaBytes {
    let copy = batch.copied()
    copy.store(value, at: offset)
    copy.store(copy.slice(from: 21).withUnsafeBytes { crc32c($0) }, at: 17)
    return copy
}

/// The offsets of the batches' first and last records.
func offsets(_ records: KafkaBytes) throws -> [ClosedRange<Int64>] {
    var found: [ClosedRange<Int64>] = []
    var position = 0
    while position < records.count {
        let header = try RecordBatchHeader(records, at: position)
        found.append(header.baseOffset...header.lastOffset)
        position += header.totalBytes
    }
    return found
}

/// What a `read_committed` consumer keeps of a partition, read from an offset on in requests of `maxBytes`: Kafka's consumer rules.
func committedOffsets(_ log: PartitionLog, from start: Int64 = 0, maxBytes: Int = 1 << 20) throws -> [Int64] {
    var kept: [Int64] = []
    var offset = start
    while offset < log.lastStableOffset {
        let fetched = try log.read(from: offset, maxBytes: maxBytes, atLeastOne: true, isolation: .readCommitted)
        var pending = fetched.abortedTransactions ?? []
        var skipped: Set<Int64> = []
        var position = 0
        while position < fetched.records.count {
            let header = try RecordBatchHeader(fetched.records, at: position)
            for transaction in pending where transaction.firstOffset <= header.lastOffset { skipped.insert(transaction.producerID) }
            pending.removeAll { $0.firstOffset <= header.lastOffset }
            if header.isControl {
                if TransactionMarker(header, fetched.records.slice(from: position, count: header.totalBytes))?.isCommit == false {
                    skipped.remove(header.producerID)
                }
            } else if !(header.isTransactional && skipped.contains(header.producerID)) {
                kept += (header.baseOffset...header.lastOffset).filter { $0 >= offset }
            }
            position += header.totalBytes
            offset = max(offset, header.lastOffset + 1)
        }
    }
    return kept
}
