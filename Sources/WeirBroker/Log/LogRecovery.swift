internal import WeirBase
internal import WeirKafkaWire

/// What opening a partition's log had to do.
package struct LogRecovery: Equatable, Sendable {
    /// Read again and checked, byte by byte: what was not closed in order.
    package var scannedBytes = 0
    /// A torn tail, which no acknowledgement covered, was cut off this file.
    package var cutPath: String?
    package var cutBytes = 0
}

/// A partition's log as found on the disk.
///
/// Closed segments whose index file matches them are trusted. The last one, and every one whose index is missing, is read and its checksums are
/// checked. A last segment may end in a torn batch, which is cut off; anything else that is wrong is damage, and an error.
struct RecoveredLog {
    private(set) var segments: [LogSegment] = []
    private(set) var producers = ProducerStates()
    private(set) var aborted = AbortedTransactions()
    private(set) var logStartOffset: Int64
    private(set) var report = LogRecovery()
    private let storage: PartitionStorage
    private let now: Int64

    /// How much of a file's end a crash can have torn: more than any request holds.
    static let tornBytesMax = 256 << 20

    init(_ storage: PartitionStorage, now: Int64) throws(LogFailure) {
        self.storage = storage
        self.now = now
        logStartOffset = try Self.readLogStart(storage) ?? 0
        let bases = try storage.segments()
        guard let first = bases.first, let last = bases.last else {
            segments = [LogSegment(baseOffset: logStartOffset, bytes: try storage.open(logStartOffset, creating: logStartOffset > 0))]
            return
        }
        var files: [any SegmentBytes] = []
        for base in bases { files.append(try storage.open(base, creating: false)) }
        let sealed = try trusted(bases, files)
        let from = try restoreProducers(bases, sealed)
        for (index, base) in bases.enumerated() {
            if index < from {
                segments.append(LogSegment(sealed[index], bytes: files[index]))
                for transaction in sealed[index].aborted { aborted.add(transaction) }
            } else {
                segments.append(try scan(LogSegment(baseOffset: base, bytes: files[index]), isLast: base == last))
            }
            let end = segments[index].endOffset
            guard base == last || end == bases[index + 1] else {
                throw .damaged(files[index].name, "it ends at offset \(end), and the next segment begins at \(bases[index + 1])")
            }
        }
        logStartOffset = max(logStartOffset, first)
        if logStartOffset > segments[segments.count - 1].endOffset { try beginAnew() }
        aborted.removeAll(endedBefore: logStartOffset)
        try storage.removeSideFiles(except: Set(segments.map(\.baseOffset) + [segments[segments.count - 1].endOffset]))
    }

    /// Starts an empty segment at the log's start: the end of the log was lost, but only records that had been deleted.
    private mutating func beginAnew() throws(LogFailure) {
        for segment in segments { try segment.bytes.remove() }
        segments = [LogSegment(baseOffset: logStartOffset, bytes: try storage.open(logStartOffset, creating: true))]
    }

    /// The closed segments, from the first on, whose index files match them and each other.
    private func trusted(_ bases: [Int64], _ files: [any SegmentBytes]) throws(LogFailure) -> [SealedSegment] {
        var found: [SealedSegment] = []
        for (index, base) in bases.enumerated() {
            guard let bytes = try storage.read(.index(base)), let sealed = SealedSegment(decoding: bytes) else { break }
            guard sealed.baseOffset == base, sealed.segmentBytes == files[index].count else { break }
            guard index + 1 == bases.count || sealed.endOffset == bases[index + 1] else { break }
            found.append(sealed)
        }
        return found
    }

    /// Loads the newest state of the producers that lies at the end of trusted segments.
    ///
    /// - Returns: The segment from which on the log has to be read; that many are trusted.
    private mutating func restoreProducers(_ bases: [Int64], _ sealed: [SealedSegment]) throws(LogFailure) -> Int {
        for count in (1..<(sealed.count + 1)).reversed() {
            let offset = sealed[count - 1].endOffset
            guard let bytes = try storage.read(.producers(offset)), let state = ProducerStates(decoding: bytes, at: offset) else { continue }
            producers = state
            return count
        }
        // Where older segments were deleted, what was known at the start of the first one is needed too; without the file it is what the log says.
        if let bytes = try storage.read(.producers(bases[0])), let state = ProducerStates(decoding: bytes, at: bases[0]) { producers = state }
        return 0
    }

    private mutating func scan(_ segment: LogSegment, isLast: Bool) throws(LogFailure) -> LogSegment {
        report.scannedBytes += segment.bytes.count
        var wrong: Int?
        let end = try segment.scan(from: 0, blockBytes: 1 << 20) { (position, header, batch) throws(LogFailure) in
            guard header.baseOffset == segment.endOffset, RecordBatch.hasValidCRC(header, in: batch) else {
                wrong = position
                return false
            }
            segment.index(header, at: position)
            take(header, batch)
            return true
        }
        if case .broken(let position) = end { wrong = position }
        guard let wrong else { return segment }
        guard isLast, try isTorn(segment, at: wrong) else {
            throw .damaged(segment.bytes.name, "the record batch at byte \(wrong), offset \(segment.endOffset), is not what was written")
        }
        report.cutPath = segment.bytes.name
        report.cutBytes = segment.bytes.count - wrong
        try segment.bytes.truncate(to: wrong)
        return segment
    }

    private mutating func take(_ header: RecordBatchHeader, _ batch: KafkaBytes) {
        guard header.isControl else {
            producers.record(header, baseOffset: header.baseOffset, now: now)
            return
        }
        guard let marker = TransactionMarker(header, batch) else { return }
        end(marker, at: header.baseOffset, producers: &producers, aborted: &aborted, now: now)
    }

    /// Whether the rest of a segment is what a crash leaves: the start of one batch, or rubbish, but no whole batch behind it.
    private func isTorn(_ segment: LogSegment, at position: Int) throws(LogFailure) -> Bool {
        let rest = segment.bytes.count - position
        guard rest <= Self.tornBytesMax else { return false }
        let bytes = try segment.bytes.read(position..<segment.bytes.count)
        // A batch that follows has a higher offset than the next one, but by no more than there can be records in the bytes between.
        let next = segment.endOffset
        var candidate = 1
        while candidate + RecordBatchHeader.bytes <= rest {
            defer { candidate += 1 }
            let offset: Int64 = bytes.load(at: candidate)
            guard offset > next, offset - next <= Int64(rest), let header = try? RecordBatchHeader(bytes, at: candidate) else { continue }
            if RecordBatch.hasValidCRC(header, in: bytes, at: candidate) { return false }
        }
        return true
    }

    // MARK: The log's start

    private static let magic: UInt32 = 0x534C_5257
    private static let version: UInt16 = 1

    /// The file `log-start`: `| magic "WRLS": u32 | version: u16 | zero: u16 | offset: i64 | CRC-32C of all before: u32 |`, little-endian.
    static func writeLogStart(_ offset: Int64, _ storage: PartitionStorage) throws(LogFailure) {
        var writer = ByteWriter(capacity: 20)
        writer.writeU32(magic)
        writer.writeU16(version)
        writer.writeU16(0)
        writer.writeI64(offset)
        writer.appendChecksum()
        try storage.write(.logStart, writer.finish())
    }

    private static func readLogStart(_ storage: PartitionStorage) throws(LogFailure) -> Int64? {
        guard let bytes = try storage.read(.logStart) else { return nil }
        let offset = bytes.withUnsafeBytes { bytes -> Int64? in
            guard var reader = checkedReader(bytes, magic: magic, version: version) else { return nil }
            return try? reader.readI64()
        }
        // Guessing would bring records back that were deleted by request.
        guard let offset, offset >= 0 else { throw .damaged(storage.name + "/log-start", "it has not the form of one") }
        return offset
    }
}
