public import WeirBase

/// Comma-separated values (RFC 4180) of `@Record` types, a record a row.
///
///     .lines("readings.csv", format: try .csv(Reading.self))
///     .lines("readings.csv", format: try .csv(Reading.self, columns: ["time", "id", "value"], delimiter: ";"))
///
/// A cell is a number, `true` or `false` (also `1` or `0`), or a text. An unquoted cell of ``nullText``, by custom an empty one, is nil where
/// the field may be. Every record has a cell for every column; columns that the type does not have are skipped.
public struct CSVFormat<Row: FieldCodable>: DeserializationSchema, SerializationSchema {
    /// What separates cells.
    public let delimiter: Character
    /// The cell that is nil.
    public let nullText: String
    @usableFromInline let layout: CSVLayout

    /// - Parameters:
    ///   - columns: The names of the cells in their order; the fields of the type if it is nil.
    ///   - delimiter: One ASCII character.
    /// - Throws: Every field that a cell cannot hold, every required one without a column.
    public init(
        _ type: Row.Type = Row.self, columns: [String]? = nil, delimiter: Character = ",", nullText: String = ""
    ) throws(ConfigurationError) {
        self.delimiter = delimiter
        self.nullText = nullText
        layout = try CSVLayout(Row.fieldType, columns: columns, delimiter: delimiter, nullText: nullText)
    }

    /// The names of the cells, in their order.
    public var columns: [String] { layout.columns }

    /// The names of the cells as a record of their own, without the end of the line: what stands first in a file with a header.
    public var header: [UInt8] {
        var writer = CSVWriter(ByteWriter(), layout: Unmanaged.passUnretained(layout))
        writer.writeHeader(columns)
        return writer.json.bytes.finish()
    }

    /// The same format for a document whose first record, the header, names its columns.
    ///
    /// - Throws: ``FormatFailure`` where it is no record, `ConfigurationError` where a required field has no column.
    public func reading(header: UnsafeRawBufferPointer) throws -> CSVFormat {
        // Some programs write a byte order mark first.
        let hasMark = header.count >= 3 && header[0] == 0xEF && header[1] == 0xBB && header[2] == 0xBF
        let columns = try CSVReader.header(
            UnsafeRawBufferPointer(rebasing: header[(hasMark ? 3 : 0)...]), layout: Unmanaged.passUnretained(layout))
        return try CSVFormat(columns: columns, delimiter: delimiter, nullText: nullText)
    }

    /// - Throws: ``FormatFailure``.
    @inlinable
    public func decode(_ bytes: UnsafeRawBufferPointer) throws -> Row {
        var reader = CSVReader(bytes, layout: Unmanaged.passUnretained(layout))
        return try Row(fields: &reader)
    }

    /// - Throws: ``FormatFailure``.
    @inlinable
    public func encode(_ row: Row, into writer: inout ByteWriter) throws {
        var csv = CSVWriter(writer, layout: Unmanaged.passUnretained(layout))
        try row.encode(fields: &csv)
        writer = csv.json.bytes
    }

    /// The end of the record that begins at `start`: where its line ends, which no line break within quotes does.
    ///
    /// - Returns: The index of the newline; nil if the bytes end before it.
    package static func recordEnd(in bytes: UnsafeRawBufferPointer, from start: Int) -> Int? {
        var isQuoted = false
        for index in start..<bytes.count {
            // A doubled quote ends the quotes and begins them again.
            if bytes[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
            if bytes[index] == 0x0A, !isQuoted { return index }
        }
        return nil
    }
}

extension DeserializationSchema {
    /// Comma-separated values; see ``CSVFormat``.
    ///
    /// - Throws: Every field that a cell cannot hold, every required one without a column.
    public static func csv<T>(
        _ type: T.Type, columns: [String]? = nil, delimiter: Character = ",", nullText: String = ""
    ) throws(ConfigurationError) -> CSVFormat<T> where Self == CSVFormat<T> {
        try CSVFormat(type, columns: columns, delimiter: delimiter, nullText: nullText)
    }
}

extension SerializationSchema {
    /// Comma-separated values; see ``CSVFormat``.
    ///
    /// - Throws: Every field that a cell cannot hold, every field without a column and column without a field.
    public static func csv<T>(
        _ type: T.Type, columns: [String]? = nil, delimiter: Character = ",", nullText: String = ""
    ) throws(ConfigurationError) -> CSVFormat<T> where Self == CSVFormat<T> {
        let format = try CSVFormat(type, columns: columns, delimiter: delimiter, nullText: nullText)
        try format.layout.checkWriting()
        return format
    }
}
