/// What a field of a message holds.
package enum KafkaValue: Sendable, Equatable {
    case null
    case bool(Bool)
    /// An integer of any width; ``KafkaStruct`` checks that it fits its field.
    case integer(Int64)
    case double(Double)
    case string(String)
    /// Bytes or records.
    case bytes(KafkaBytes)
    /// Records in several places, written one behind the other. Never the result of decoding.
    case pieces([KafkaBytes])
    case uuid(KafkaUUID)
    case array([KafkaValue])
    case structure(KafkaStruct)

    package static func int(_ value: some BinaryInteger) -> KafkaValue { .integer(Int64(value)) }
    package static func code(_ value: KafkaErrorCode) -> KafkaValue { .integer(Int64(value.rawValue)) }
    package static func optional(_ value: String?) -> KafkaValue { value.map { .string($0) } ?? .null }
    package static func ints(_ values: some Sequence<some BinaryInteger>) -> KafkaValue { .array(values.map { .integer(Int64($0)) }) }
    package static func strings(_ values: some Sequence<String>) -> KafkaValue { .array(values.map { .string($0) }) }
    package static func structures(_ values: [KafkaStruct]) -> KafkaValue { .array(values.map { .structure($0) }) }
}

extension KafkaValue: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByNilLiteral {
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(stringLiteral value: String) { self = .string(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(nilLiteral: ()) { self = .null }
}
