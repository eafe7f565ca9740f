import Glibc
import Synchronization
import WeirBase
public import WeirDataflow
public import WeirFormats
import WeirStreams

/// The part of a source subtask that does not depend on the type of its rows: the ranges, the reader's thread, the watermark.
@usableFromInline
final class LinesReader {
    private let settings: LinesSourceSettings
    @usableFromInline let lineBytesMax: Int
    @usableFromInline let skipsEmptyLines: Bool
    private var context: OperatorContext?
    private var ranges: [FileRange] = []
    private var restored: [FileRange]?
    private var reader: BlockReader?
    private var watermarks: SplitWatermarks

    /// The block whose lines are being handled, and how far they were.
    private(set) var block: LineBlock?
    @usableFromInline var cursor = 0
    /// Closed while the schema of the line at ``cursor`` is being fetched.
    private var schemaGate: SchemaGate?

    init(settings: LinesSourceSettings, watermarks: SplitWatermarks) {
        self.settings = settings
        lineBytesMax = settings.lineBytesMax.bytes
        skipsEmptyLines = settings.skipsEmptyLines
        self.watermarks = watermarks
    }

    func restore(from state: RestoredState) throws {
        do {
            restored = try FileRangeState.decode(state.union(FileRangeState.name))
        } catch {
            throw JobFailure(
                domain: .system, recovery: .fail, message: "the file positions of checkpoint \(state.checkpoint) are damaged",
                cause: String(describing: error))
        }
    }

    func start(_ context: OperatorContext) throws {
        self.context = context
        watermarks.addSplit(now: 0)
        if let restored {
            // Every subtask sees the same list: dealt out anew, so that any number of subtasks shares what is left.
            ranges = restored.enumerated().filter { $0.offset % context.parallelism == context.subtask }.map(\.element)
        } else {
            for (file, entry) in try FileListing.list(settings.path).enumerated() {
                let parts = FileRange.split(path: entry.path, bytes: entry.bytes, splitBytes: Int64(settings.splitBytes.bytes))
                ranges += parts.enumerated().filter { (file + $0.offset) % context.parallelism == context.subtask }.map(\.element)
            }
        }
        restored = nil
        let waker = context.waker
        let reader = BlockReader(
            ranges: ranges, blockBytes: settings.blockBytes.bytes, lineBytesMax: settings.lineBytesMax.bytes, wake: { waker.wake() })
        try reader.start()
        self.reader = reader
    }

    func snapshot(into builder: SnapshotBuilder) {
        if let block { ranges[block.range].next = max(ranges[block.range].next, block.offset + Int64(cursor)) }
        builder.addList(FileRangeState.name, FileRangeState.encode(ranges))
    }

    func close() {
        reader?.stop()
        reader = nil
    }

    /// The line at ``cursor`` cannot be read before its schema comes.
    @usableFromInline
    func wait(for pending: SchemaPending) {
        let gate = SchemaGate()
        schemaGate = gate
        let waker = context?.waker
        pending.whenReady {
            gate.isOpen.store(true, ordering: .releasing)
            waker?.wake()
        }
    }

    /// Whether a schema is being waited for; the waker is called when it has come.
    func isWaitingForSchema() -> Bool {
        guard let gate = schemaGate else { return false }
        guard gate.isOpen.load(ordering: .acquiring) else { return true }
        schemaGate = nil
        return false
    }

    /// Makes ``block`` one with lines left.
    ///
    /// - Returns: nil if there is one; else what the source has to say.
    func advance() throws -> SourceStatus? {
        while true {
            if let block {
                if cursor < block.count { return nil }
                ranges[block.range].next = max(ranges[block.range].next, block.offset + Int64(block.count))
                if block.isLast { ranges[block.range].isFinished = true }
                self.block = nil
                reader?.recycle(block)
            }
            switch reader?.next() {
            case .block(let next):
                block = next
                cursor = next.offset == 0 && startsWithByteOrderMark(next) ? 3 : 0
                context?.counter("numBytesIn").add(next.count)
            case .nothing: return .idle(wakeAfter: nil)
            case .finished, nil: return .finished
            case .failed(let failure): throw failure
            }
        }
    }

    private func startsWithByteOrderMark(_ block: LineBlock) -> Bool {
        block.count >= 3 && UnsafeRawBufferPointer(start: block.base, count: 3).elementsEqual([0xEF, 0xBB, 0xBF])
    }

    /// The index of the newline at or behind `start`, or `count` if there is none.
    @usableFromInline
    static func lineEnd(_ base: UnsafeRawPointer, from start: Int, count: Int) -> Int {
        guard let newline = memchr(base + start, 0x0A, count - start) else { return count }
        return UnsafeRawPointer(newline) - base
    }

    @usableFromInline
    func refuse(lineAt start: Int, in block: LineBlock) throws {
        throw lineTooLong(path: ranges[block.range].path, offset: block.offset + Int64(start), bytesMax: settings.lineBytesMax.bytes)
    }

    /// A line that the format refused.
    @usableFromInline
    func badLine(_ line: UnsafeRawBufferPointer, at start: Int, in block: LineBlock, _ error: any Error) throws {
        context?.counter("deserializationErrors").add(1)
        guard settings.badLines == .fail else { return }
        throw JobFailure(
            domain: .user, recovery: .fail,
            message: "the line at byte \(block.offset + Int64(start)) of \"\(ranges[block.range].path)\" cannot be read: it begins with"
                + " \(firstBytes(line))",
            cause: String(describing: error))
    }

    /// Rows were emitted, the latest of them at `greatest`.
    func sendWatermark(greatest: Int64) throws {
        if greatest != .min { watermarks.observe(split: 0, greatest: greatest, now: 0) }
        if case .watermark(let time) = watermarks.advance(now: 0) { try context?.emitWatermark(time) }
    }
}

/// Open once a schema has come, or it is known why it does not.
final class SchemaGate: Sendable {
    let isOpen = Atomic<Bool>(false)
}

/// Reads lines of the block from the reader's cursor on into the batch, at most `limit` rows.
@usableFromInline
typealias LinesFill<Row: Sendable> = @Sendable (LinesReader, _ block: LineBlock, _ batch: Batch<Row>, _ limit: Int) throws -> Void

extension LinesReader {
    @inlinable
    @inline(__always)
    func fill<Format: DeserializationSchema>(_ batch: Batch<Format.Row>, from block: LineBlock, limit: Int, format: Format) throws {
        let base = UnsafeRawPointer(block.base)
        let bytes = block.count
        var start = cursor
        while batch.count < limit, start < bytes {
            let end = Self.lineEnd(base, from: start, count: bytes)
            // CRLF: the CR belongs to the end of the line.
            let isCarriageReturn = end > start && base.load(fromByteOffset: end - 1, as: UInt8.self) == 0x0D
            let line = UnsafeRawBufferPointer(start: base + start, count: end - start - (isCarriageReturn ? 1 : 0))
            if line.count > lineBytesMax { try refuse(lineAt: start, in: block) }
            if !(skipsEmptyLines && line.isEmpty) {
                do {
                    batch.append(try format.decode(line), timestamp: AnyBatch.noTimestamp)
                } catch let pending as SchemaPending {
                    cursor = start
                    return wait(for: pending)
                } catch {
                    try badLine(line, at: start, in: block, error)
                }
            }
            start = end + 1
        }
        cursor = min(start, bytes)
    }
}

/// One subtask of a source of lines.
final class LinesSourceOperator<Row: Sendable>: AnySource {
    private let reader: LinesReader
    private let fill: LinesFill<Row>
    private let output: Collector<Row>
    private var stamper: SplitStamper<Row>
    private let pool = BatchPool<Row>()
    private var context: OperatorContext?

    init(setup: SourceSetup<Row>, settings: LinesSourceSettings, fill: @escaping LinesFill<Row>) {
        reader = LinesReader(settings: settings, watermarks: SplitWatermarks(setup.watermarks))
        self.fill = fill
        output = setup.output
        stamper = SplitStamper(setup.watermarks)
    }

    override func open(_ context: OperatorContext) throws { self.context = context }

    override func restore(from state: RestoredState) throws { try reader.restore(from: state) }

    override func start() throws { if let context { try reader.start(context) } }

    override func poll(budget: Int) throws -> SourceStatus {
        var remaining = max(1, budget)
        while remaining > 0 {
            if reader.isWaitingForSchema() { return .idle(wakeAfter: nil) }
            if let status = try reader.advance() { return status }
            guard let block = reader.block else { return .more }
            let batch = pool.take()
            try fill(reader, block, batch, min(remaining, batch.capacity))
            remaining -= max(1, batch.count)
            let greatest = stamper.stamp(split: 0, batch.rows, batch.timestamps, batch.count)
            try output.emit(batch)
            try reader.sendWatermark(greatest: greatest)
        }
        return .more
    }

    override func snapshot(into builder: SnapshotBuilder) throws { reader.snapshot(into: builder) }

    override func close() { reader.close() }
}
