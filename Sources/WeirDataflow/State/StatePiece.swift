package import WeirBase

/// A piece of a keyed state part: all pieces one behind the other are the part.
package struct StatePiece {
    /// Pages of fewer bytes are written anew each time: to name them elsewhere would save little.
    package static let sharedBytesMin = 4_096

    /// The content's number in its state, if the piece is a page that may be found elsewhere: equal numbers, equal bytes. Given once in the
    /// life of a state, so only good within one execution attempt.
    package let version: UInt64?
    /// About as many as ``encode`` writes.
    package let bytes: Int
    package let encode: (inout ByteWriter) -> Void

    package init(version: UInt64?, bytes: Int, encode: @escaping (inout ByteWriter) -> Void) {
        self.version = version
        self.bytes = bytes
        self.encode = encode
    }

    static func header(kind: StateFormat.Kind, schema: Schema, rows: Int) -> StatePiece {
        StatePiece(version: nil, bytes: StateFormat.headerBytes) { writer in
            StateBlockWriter.writeHeader(kind: kind, schema: schema, rows: rows, into: &writer)
        }
    }

    static var end: StatePiece {
        StatePiece(version: nil, bytes: StateFormat.blockHeaderBytes) { writer in
            var blocks = StateBlockWriter(namespace: 0)
            blocks.finish(into: &writer)
        }
    }
}
