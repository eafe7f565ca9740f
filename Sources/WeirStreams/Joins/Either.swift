public import WeirBase

/// A row of one of two streams that are handled together.
public enum Either<Left: BinaryCodable, Right: BinaryCodable>: BinaryCodable {
    case left(Left)
    case right(Right)

    public static var schema: Schema {
        .record(name: "Either", fields: [.init("left", .optional(Left.schema)), .init("right", .optional(Right.schema))])
    }

    @inlinable
    public func encode(into writer: inout ByteWriter) {
        switch self {
        case .left(let row):
            writer.writeU8(0)
            row.encode(into: &writer)
        case .right(let row):
            writer.writeU8(1)
            row.encode(into: &writer)
        }
    }

    @inlinable
    public init(from reader: inout ByteReader) throws(DecodingFailure) {
        switch try reader.readU8() {
        case 0: self = .left(try Left(from: &reader))
        case 1: self = .right(try Right(from: &reader))
        default: throw DecodingFailure("neither a row of the left stream nor of the right", offset: 0)
        }
    }
}
