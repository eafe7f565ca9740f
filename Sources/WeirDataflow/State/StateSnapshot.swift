package import WeirBase

/// A table as it was at a capture: shares pages with the table, which copies a page before it writes it.
///
/// Releasing it gives the pages back. Encode it on any thread.
public struct StateTableSnapshot: Sendable {
    let pages: [StatePage]
    /// Keys in it.
    public let count: Int
    let operations: StateValueOperations
    let keyOffset: Int
    /// Of a table with a TTL: the latest time that had expired at the capture.
    let expired: Int64?

    /// Bytes of rows, free ones included: about what ``encode(into:)`` will write.
    package var bytes: Int { pages.reduce(0) { $0 + $1.used } }

    /// Writes header and rows, without those that had expired: ``StateFormat``.
    package func encode(into writer: inout ByteWriter) {
        var live = count
        if let expired {
            for page in pages { page.forEachRow { if Self.time($0, page) <= expired { live -= 1 } } }
        }
        var blocks = StateBlockWriter(kind: .table, schema: operations.schema, rows: live, expectedBytes: bytes, into: &writer)
        encodeRows(to: &blocks, into: &writer)
        blocks.finish(into: &writer)
    }

    func encodeRows(to blocks: inout StateBlockWriter, into writer: inout ByteWriter) {
        for page in pages { encodeRows(of: page, to: &blocks, into: &writer, without: expired) }
    }

    private static func time(_ row: UnsafeRawPointer, _ page: StatePage) -> Int64 { row.load(fromByteOffset: page.valueOffset, as: Int64.self) }

    /// Header, a piece a page, end. Rows that had expired are among them: what a page writes must not depend on the time.
    package func forEachPiece(_ body: (StatePiece) -> Void) {
        body(.header(kind: .table, schema: operations.schema, rows: count))
        forEachPage(namespace: 0, body)
        body(.end)
    }

    func forEachPage(namespace: Int64, _ body: (StatePiece) -> Void) {
        for page in pages {
            body(
                StatePiece(version: page.used >= StatePiece.sharedBytesMin ? page.version : nil, bytes: page.used) { writer in
                    var blocks = StateBlockWriter(namespace: namespace)
                    encodeRows(of: page, to: &blocks, into: &writer)
                    blocks.flush(into: &writer)
                })
        }
    }

    /// - Parameter expired: Leaves out the rows up to a time; nil: none.
    private func encodeRows(
        of page: StatePage, to blocks: inout StateBlockWriter, into writer: inout ByteWriter, without expired: Int64? = nil
    ) {
        page.forEachRow { row in
            if let expired, Self.time(row, page) <= expired { return }
            blocks.row(hash: row.load(as: UInt64.self), key: key(of: row), into: &writer) {
                operations.encode(row + page.valueOffset, &$0)
            }
        }
    }

    func key(of row: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: row + keyOffset, count: Int(row.load(fromByteOffset: StateRow.keyCountOffset, as: UInt32.self)))
    }
}

extension StateRowTable {
    /// Adds the rows of a part that the filter takes; a key that is there already gets the part's value.
    ///
    /// - Parameter migration: Reads values of another schema.
    /// - Throws: ``DecodingFailure`` for anything that is not a part of this schema or one that can be migrated, whole; then the table holds
    ///   some of the rows and should be dropped.
    package func restore(
        from reader: inout ByteReader, filter: KeyGroupFilter, migration: (any StateMigration)? = nil
    ) throws(DecodingFailure) {
        let blocks = try StateBlockReader(expecting: .table, from: &reader)
        let values = StateValueReader(operations, try operations.decoder(of: blocks, migration))
        try blocks.forEachRow(from: &reader) { (_, hash, key, bytes) throws(DecodingFailure) in
            try restoreRow(hash: hash, key: key, from: &bytes, filter: filter, values: values)
        }
    }

    func restoreRow(
        hash: UInt64, key: UnsafeRawBufferPointer, from bytes: inout ByteReader, filter: KeyGroupFilter, values: StateValueReader
    ) throws(DecodingFailure) {
        guard filter.contains(hash: hash) else { return try values.skip(&bytes) }
        let (number, inserted) = findOrInsert(hash: hash, key: key)
        do throws(DecodingFailure) {
            try values.decode(writableRow(number) + valueOffset, !inserted, &bytes)
        } catch {
            if inserted { forget(number) }
            throw error
        }
    }
}

/// Reads the values of a part, and has memory for one that is read only to get past it.
final class StateValueReader {
    let decode: StateDecoder
    private let memory: UnsafeMutableRawPointer
    private let operations: StateValueOperations

    init(_ operations: StateValueOperations, _ decode: @escaping StateDecoder) {
        self.operations = operations
        self.decode = decode
        memory = .allocate(byteCount: Swift.max(operations.paddedSize, 8), alignment: operations.alignment)
    }

    deinit { memory.deallocate() }

    func skip(_ reader: inout ByteReader) throws(DecodingFailure) {
        try decode(memory, false, &reader)
        if !operations.isBitwise { operations.destroy(memory) }
    }
}

extension StateTableSnapshot: KeyedStatePart {}
