/// A message, or a structure inside one, with its fields by name.
///
/// Names are those of Kafka's message definitions with a small first letter, as the tables in `Schemas+….swift` list them. A field that the
/// decoded version does not have holds its default, so handlers rarely ask for the version:
///
/// ```swift
/// for topic in request.structures("topicData") {                       // nothing when the array is null
///     let name = topic.string("name")
///     for partition in topic.structures("partitionData") {
///         append(partition.optionalBytes("records"), to: name, partition.int32("index"))
///     }
/// }
///
/// var reply = KafkaStruct(responseOf: .produce)                         // every field has its default
/// reply.append(to: "responses") { topic in
///     topic["name"] = .string(name)
///     topic.append(to: "partitionResponses") { partition in
///         partition["index"] = .int(index)
///         partition["errorCode"] = .code(.none)
///         partition["baseOffset"] = .int(offset)
///     }
/// }
/// context.reply(reply)
/// ```
///
/// A name that the schema does not list, or a value of another type than the field's, is a mistake in our code and traps.
package struct KafkaStruct: Sendable, Equatable {
    package let schema: StructSchema
    var values: [KafkaValue]

    /// A structure in which every field has its default.
    package init(_ schema: StructSchema) {
        self.schema = schema
        values = schema.defaults
    }

    package init(requestOf api: ApiKey) { self.init(ApiSchema.of(api).request) }
    package init(responseOf api: ApiKey) { self.init(ApiSchema.of(api).response) }

    package subscript(name: String) -> KafkaValue {
        get { values[schema.index(of: name)] }
        set {
            let index = schema.index(of: name)
            precondition(schema.fields[index].type.accepts(newValue), "the field \(name) cannot hold \(newValue)")
            values[index] = newValue
        }
    }

    // MARK: Reading

    /// The number in a field; zero when it is null.
    package func int64(_ name: String) -> Int64 {
        if case .integer(let value) = self[name] { return value }
        return 0
    }

    package func int32(_ name: String) -> Int32 { Int32(truncatingIfNeeded: int64(name)) }
    package func int16(_ name: String) -> Int16 { Int16(truncatingIfNeeded: int64(name)) }
    package func int8(_ name: String) -> Int8 { Int8(truncatingIfNeeded: int64(name)) }
    package func errorCode(_ name: String = "errorCode") -> KafkaErrorCode { KafkaErrorCode(rawValue: int16(name)) }

    package func bool(_ name: String) -> Bool { self[name] == .bool(true) }

    /// The text in a field; empty when it is null.
    package func string(_ name: String) -> String { optionalString(name) ?? "" }

    package func optionalString(_ name: String) -> String? {
        if case .string(let value) = self[name] { return value }
        return nil
    }

    /// The bytes in a field; empty when it is null. They share the memory of the message.
    package func bytes(_ name: String) -> KafkaBytes { optionalBytes(name) ?? .empty }

    package func optionalBytes(_ name: String) -> KafkaBytes? {
        if case .bytes(let value) = self[name] { return value }
        return nil
    }

    package func uuid(_ name: String) -> KafkaUUID {
        if case .uuid(let value) = self[name] { return value }
        return .zero
    }

    package func structure(_ name: String) -> KafkaStruct? {
        if case .structure(let value) = self[name] { return value }
        return nil
    }

    package func isNull(_ name: String) -> Bool { self[name] == .null }

    /// The structures in an array; none when it is null.
    package func structures(_ name: String) -> [KafkaStruct] {
        elements(name) { if case .structure(let value) = $0 { value } else { nil } }
    }

    package func strings(_ name: String) -> [String] {
        elements(name) { if case .string(let value) = $0 { value } else { nil } }
    }

    package func int32s(_ name: String) -> [Int32] {
        elements(name) { if case .integer(let value) = $0 { Int32(truncatingIfNeeded: value) } else { nil } }
    }

    package func int64s(_ name: String) -> [Int64] {
        elements(name) { if case .integer(let value) = $0 { value } else { nil } }
    }

    private func elements<T>(_ name: String, _ convert: (KafkaValue) -> T?) -> [T] {
        guard case .array(let values) = self[name] else { return [] }
        return values.compactMap(convert)
    }

    // MARK: Building

    /// Appends a structure to an array of them.
    package mutating func append(to name: String, _ fill: (inout KafkaStruct) -> Void) {
        let index = schema.index(of: name)
        guard case .array(.structure(let element)) = schema.fields[index].type else {
            preconditionFailure("the field \(name) is no array of structures")
        }
        var structure = KafkaStruct(element)
        fill(&structure)
        var items: [KafkaValue] = []
        if case .array(let present) = values[index] { items = present }
        values[index] = .null  // The array is appended to in place, not copied.
        items.append(.structure(structure))
        values[index] = .array(items)
    }

    /// Sets a field that is a structure, from its defaults.
    package mutating func fill(_ name: String, _ body: (inout KafkaStruct) -> Void) {
        let index = schema.index(of: name)
        guard case .structure(let element) = schema.fields[index].type else { preconditionFailure("the field \(name) is no structure") }
        var structure = KafkaStruct(element)
        body(&structure)
        values[index] = .structure(structure)
    }

    package static func == (left: KafkaStruct, right: KafkaStruct) -> Bool { left.schema === right.schema && left.values == right.values }
}
