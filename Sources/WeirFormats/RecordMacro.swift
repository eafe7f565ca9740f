import WeirBase

/// Makes a struct a record of streams: its schema, its binary form for state and exchanges, its JSON form, and its fields for Avro and CSV.
///
///     @Record
///     struct Reading {
///         var containerID: String
///         var temperature: Double
///         var humidity: Double?              // May be null or missing in a document.
///         var unit = "C"                     // The default where a document does not have it.
///         @Field("co2_ppm") var co2: Double  // Another name in documents.
///     }
///
/// Fields are the stored properties, of any type that is itself a record, a number, `Bool`, `String`, an optional or an array.
/// The binary form has them in the order of declaration; JSON takes any order, and is fastest in that one. A type that conforms to
/// `Record`, ``JSONRecord`` and ``FieldCodable`` by hand can be a field, too.
/// A part that the struct already conforms to by hand is left alone.
///
/// - Note: Renaming or reordering properties changes the schema's fingerprint, and with it the binary form.
@attached(
    extension, conformances: Record, JSONRecord, FieldCodable,
    names: named(schema), named(encode), named(init), named(jsonField), named(fieldType))
public macro Record() = #externalMacro(module: "WeirMacros", type: "RecordMacro")

/// Names a `@Record` field in JSON, Avro and CSV otherwise than its property. The binary form keeps the property's name.
@attached(peer)
public macro Field(_ name: String) = #externalMacro(module: "WeirMacros", type: "FieldMacro")
