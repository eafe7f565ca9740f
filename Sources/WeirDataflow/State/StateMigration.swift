package import WeirBase

/// Reads one value into memory; touches it only after the value was read whole. `replacing` says whether the memory holds a value.
package typealias StateDecoder =
    @Sendable (_ target: UnsafeMutableRawPointer, _ replacing: Bool, _ reader: inout ByteReader) throws(DecodingFailure) -> Void

/// How values that were written with another schema become values of a type: what the job's layer knows of its records.
package protocol StateMigration: Sendable {
    /// - Parameters:
    ///   - type: That of the values in the table.
    ///   - writer: The schema of the bytes.
    /// - Throws: ``DecodingFailure`` naming the field that stands in the way.
    func decoder(of type: any BinaryCodable.Type, from writer: Schema) throws(DecodingFailure) -> StateDecoder
}

extension StateValueOperations {
    /// What reads the values of a part.
    ///
    /// - Parameter migration: Nil: only values of this very schema can be read.
    func decoder(of blocks: StateBlockReader, _ migration: (any StateMigration)?) throws(DecodingFailure) -> StateDecoder {
        if blocks.fingerprint == fingerprint { return decode }
        guard let migration, let writer = blocks.schema else {
            throw DecodingFailure(
                "keyed state of another schema: \(blocks.schema?.canonical ?? hexadecimal(blocks.fingerprint)), this job has \(valueType.schema.canonical)",
                offset: 16)
        }
        return try migration.decoder(of: valueType, from: writer)
    }
}
