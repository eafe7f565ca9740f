package import WeirBase

/// Reads the rows of a container file's blocks.
package struct AvroContainerRows<Row: FieldCodable>: Sendable {
    private let header: AvroContainerHeader
    private let plan: AvroPlan

    /// - Parameter reader: The schema to read by; nil: the row's type takes the file's fields by their names.
    /// - Throws: Why the file's rows cannot become these.
    package init(_ type: Row.Type = Row.self, of header: AvroContainerHeader, as reader: AvroSchema? = nil) throws(AvroSchemaFailure) {
        self.header = header
        plan = try .reading(header.schema, as: reader, into: Row.fieldType)
    }

    /// Hands the rows of a block to `emit`.
    ///
    /// - Parameter payload: The block's, as it lies in the file.
    /// - Throws: ``FormatFailure``, with offsets into the decompressed block; what `emit` throws.
    package func read(_ payload: UnsafeRawBufferPointer, rows: Int, emit: (consuming Row) throws -> Void) throws {
        guard header.codec != .null else { return try readPlain(payload, rows: rows, emit: emit) }
        try header.codec.decompress(payload).withUnsafeBytes { try readPlain($0, rows: rows, emit: emit) }
    }

    private func readPlain(_ bytes: UnsafeRawBufferPointer, rows: Int, emit: (consuming Row) throws -> Void) throws {
        try withExtendedLifetime(plan) {
            var reader = AvroReader(bytes, plan: Unmanaged.passUnretained(plan))
            for _ in 0..<rows {
                reader.restart()
                try emit(try Row(fields: &reader))
            }
            try reader.finish()
        }
    }
}

/// Writes rows as the blocks of a container file.
package struct AvroContainerWriter<Row: FieldCodable> {
    private let header: AvroContainerHeader
    private let plan: AvroPlan
    private var rows = 0
    private var block = ByteWriter()

    /// - Parameter header: Of the file, which the caller writes first.
    /// - Throws: Why rows do not fit the schema.
    package init(_ type: Row.Type = Row.self, header: AvroContainerHeader) throws(AvroSchemaFailure) {
        self.header = header
        plan = try .writing(header.schema, from: Row.fieldType)
    }

    /// Bytes of the rows that were not flushed, uncompressed.
    package var pendingBytes: Int { block.count }

    /// - Throws: ``FormatFailure`` where the schema cannot hold the row, which is then left out.
    package mutating func append(_ row: Row) throws(FormatFailure) {
        let count = block.count
        var avro = AvroWriter(block, plan: Unmanaged.passUnretained(plan))
        do throws(FormatFailure) {
            try row.encode(fields: &avro)
        } catch {
            block = avro.bytes
            block.truncate(to: count)
            throw error
        }
        block = avro.bytes
        rows += 1
    }

    /// Appends the rows since the last call as a block; nothing if there are none.
    package mutating func flush(into writer: inout ByteWriter) {
        guard rows > 0 else { return }
        let payload = block.withBytes { header.codec.compress($0) }
        AvroBinary.writeLong(Int64(rows), into: &writer)
        AvroBinary.writeLong(Int64(payload.count), into: &writer)
        writer.writeBytes(payload)
        writer.writeBytes(header.syncMarker)
        rows = 0
        block.removeAll()
    }
}
