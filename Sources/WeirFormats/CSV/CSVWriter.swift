public import WeirBase

/// Writes one record of comma-separated values (RFC 4180), without the end of its line.
///
/// - Important: It borrows the layout: do not let it outlive it.
public struct CSVWriter: FieldWriter {
    @usableFromInline var json: JSONWriter
    private let layout: Unmanaged<CSVLayout>
    private var column = -1

    /// Goes on behind what `bytes` holds.
    @usableFromInline
    init(_ bytes: ByteWriter, layout: Unmanaged<CSVLayout>) {
        json = JSONWriter(bytes)
        self.layout = layout
    }

    public func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure {
        FormatFailure(
            "CSV", reason, message, field: layout._withUnsafeGuaranteedRef { $0.columns.indices.contains(column) ? $0.columns[column] : "" })
    }

    /// Where in a record's cells the writer is.
    public struct RecordPlace {
        fileprivate var column = 0
    }

    public mutating func beginRecord() throws(FormatFailure) -> RecordPlace { RecordPlace() }

    public mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        let (delimiter, count, field) = layout._withUnsafeGuaranteedRef { layout in
            (layout.delimiter, layout.fields.count, place.column < layout.fields.count ? layout.fields[place.column] : -1)
        }
        guard place.column < count else { return -1 }
        if place.column > 0 { json.bytes.writeU8(delimiter) }
        column = place.column
        place.column += 1
        return field
    }

    mutating func writeHeader(_ columns: [String]) {
        let delimiter = layout._withUnsafeGuaranteedRef { $0.delimiter }
        for (index, name) in columns.enumerated() {
            if index > 0 { json.bytes.writeU8(delimiter) }
            column = index
            writeText(name)
        }
    }

    // MARK: Values

    public mutating func writeNull() throws(FormatFailure) { json.bytes.writeBytes(layout._withUnsafeGuaranteedRef { $0.nullText }) }

    public mutating func writeBool(_ value: Bool) throws(FormatFailure) { json.writeBool(value) }

    public mutating func writeInteger<T: FixedWidthInteger>(_ value: T) throws(FormatFailure) {
        if let value = Int64(exactly: value) {
            json.writeInteger(value)
        } else if let value = UInt64(exactly: value) {
            json.writeInteger(value)
        } else {
            throw failure(.outOfRange, "\(value) does not fit 64 bits")
        }
    }

    public mutating func writeDouble(_ value: Double) throws(FormatFailure) {
        if value.isFinite { json.writeDouble(value) } else { try writeString(value.description) }
    }

    public mutating func writeFloat(_ value: Float) throws(FormatFailure) {
        if value.isFinite { json.writeFloat(value) } else { try writeString(value.description) }
    }

    public mutating func writeString(_ value: String) throws(FormatFailure) { writeText(value) }

    private mutating func writeText(_ value: String) {
        var text = value
        text.withUTF8 { utf8 in
            let bytes = UnsafeRawBufferPointer(utf8)
            guard needsQuotes(bytes) else { return json.bytes.writeBytes(bytes) }
            json.bytes.writeU8(UInt8(ascii: "\""))
            for byte in bytes {
                if byte == UInt8(ascii: "\"") { json.bytes.writeU8(byte) }
                json.bytes.writeU8(byte)
            }
            json.bytes.writeU8(UInt8(ascii: "\""))
        }
    }

    private func needsQuotes(_ bytes: UnsafeRawBufferPointer) -> Bool {
        layout._withUnsafeGuaranteedRef { layout in
            // A text that reads as nil, and a line that is no line.
            if layout.isOptional[column], bytes.elementsEqual(layout.nullText) { return true }
            if bytes.isEmpty, layout.columns.count == 1 { return true }
            return bytes.contains { $0 == layout.delimiter || $0 == UInt8(ascii: "\"") || $0 == 0x0A || $0 == 0x0D }
        }
    }

    public mutating func writeBytes(_ value: [UInt8]) throws(FormatFailure) { throw failure(.typeMismatch, "bytes, which CSV does not have") }

    public struct ArrayPlace { fileprivate init() {} }
    public mutating func beginArray(count: Int) throws(FormatFailure) -> ArrayPlace {
        throw failure(.typeMismatch, "an array, which CSV does not have")
    }
    public mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) {}
    public mutating func endArray(_ place: ArrayPlace) throws(FormatFailure) {}
}
