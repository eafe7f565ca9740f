import WeirBase

/// Reads one record of comma-separated values (RFC 4180) straight into fields.
///
/// - Important: It borrows the memory and the layout: do not let it outlive either.
public struct CSVReader: FieldReader {
    @usableFromInline var cursor: UnsafeRawPointer
    @usableFromInline let end: UnsafeRawPointer
    private let start: UnsafeRawPointer
    private let layout: Unmanaged<CSVLayout>
    @usableFromInline let delimiter: UInt8

    // The cell under the cursor, without its quotes.
    @usableFromInline var cell: UnsafeRawPointer
    @usableFromInline var cellCount = 0
    private var isQuoted = false
    /// Whether quotes are doubled inside.
    @usableFromInline var hasEscapes = false
    private var column = -1

    /// - Parameter bytes: One record, with or without the end of its line.
    @usableFromInline
    init(_ bytes: UnsafeRawBufferPointer, layout: Unmanaged<CSVLayout>) {
        // An empty buffer may have no address; with cursor == end none is ever read from.
        start = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!
        cursor = start
        cell = start
        var count = bytes.count
        if count > 0, bytes[count - 1] == 0x0A { count -= 1 }
        if count > 0, bytes[count - 1] == 0x0D { count -= 1 }
        end = start + count
        self.layout = layout
        delimiter = layout._withUnsafeGuaranteedRef { $0.delimiter }
    }

    // MARK: Failures

    public func failure(_ reason: FormatFailure.Reason, _ message: String) -> FormatFailure { failure(reason, message, at: cell) }

    private func failure(_ reason: FormatFailure.Reason, _ message: String, at place: UnsafeRawPointer) -> FormatFailure {
        let name = layout._withUnsafeGuaranteedRef { $0.columns.indices.contains(column) ? $0.columns[column] : "" }
        return FormatFailure("CSV", reason, message, offset: place - start, field: name)
    }

    @usableFromInline @inline(never)
    func unexpected(_ expected: StaticString) -> FormatFailure {
        let text = String(decoding: UnsafeRawBufferPointer(start: cell, count: min(cellCount, 40)), as: UTF8.self)
        return failure(.typeMismatch, cellCount == 0 ? "\(expected) expected, found nothing" : "\(expected) expected, found \"\(text)\"")
    }

    // MARK: Cells

    /// Where in a record's cells the cursor is.
    public struct RecordPlace {
        @usableFromInline var column = 0
        @usableFromInline init() {}
    }

    @inlinable
    public mutating func beginRecord() throws(FormatFailure) -> RecordPlace { RecordPlace() }

    public mutating func nextField(_ place: inout RecordPlace) throws(FormatFailure) -> Int {
        while true {
            let (count, field) = layout._withUnsafeGuaranteedRef { layout in
                (layout.fields.count, place.column < layout.fields.count ? layout.fields[place.column] : -1)
            }
            guard place.column < count else {
                guard cursor == end else { throw failure(.malformed, "more than \(count) cells", at: cursor) }
                return -1
            }
            column = place.column
            if column > 0 {
                guard cursor < end else { throw failure(.truncated, "\(column) cells, and \(count) expected", at: cursor) }
                cursor += 1
            }
            place.column += 1
            try scanCell()
            if field >= 0 { return field }
        }
    }

    /// Finds the end of the cell at the cursor, and leaves the cursor there: at a delimiter or the end.
    private mutating func scanCell() throws(FormatFailure) {
        hasEscapes = false
        if cursor < end, cursor.load(as: UInt8.self) == UInt8(ascii: "\"") { return try scanQuotedCell() }
        isQuoted = false
        cell = cursor
        while cursor < end {
            let byte = cursor.load(as: UInt8.self)
            if byte == delimiter { break }
            // A quote is below every letter and digit: one comparison for most bytes.
            if byte <= UInt8(ascii: "\""), byte == UInt8(ascii: "\"") || byte == 0x0A || byte == 0x0D {
                throw failure(
                    .malformed, byte == UInt8(ascii: "\"") ? "a quote inside an unquoted cell" : "the end of a line inside an unquoted cell",
                    at: cursor)
            }
            cursor += 1
        }
        cellCount = cursor - cell
    }

    private mutating func scanQuotedCell() throws(FormatFailure) {
        isQuoted = true
        cursor += 1
        cell = cursor
        while cursor < end {
            guard cursor.load(as: UInt8.self) == UInt8(ascii: "\"") else {
                cursor += 1
                continue
            }
            if cursor + 1 < end, cursor.load(fromByteOffset: 1, as: UInt8.self) == UInt8(ascii: "\"") {
                hasEscapes = true
                cursor += 2
                continue
            }
            cellCount = cursor - cell
            cursor += 1
            guard cursor == end || cursor.load(as: UInt8.self) == delimiter else {
                throw failure(.malformed, "something behind the closing quote of a cell", at: cursor)
            }
            return
        }
        throw failure(.truncated, "the record ends inside a quoted cell", at: cursor)
    }

    /// The cells of a header.
    static func header(_ bytes: UnsafeRawBufferPointer, layout: Unmanaged<CSVLayout>) throws(FormatFailure) -> [String] {
        var reader = CSVReader(bytes, layout: layout)
        var columns: [String] = []
        while true {
            guard columns.count < CSVLayout.columnsMax else {
                throw reader.failure(.tooLarge, "a header of more than \(CSVLayout.columnsMax) columns", at: reader.cursor)
            }
            try reader.scanCell()
            columns.append(try reader.readString())
            guard reader.cursor < reader.end else { return columns }
            reader.cursor += 1
        }
    }

    // MARK: Values

    public mutating func readNull() throws(FormatFailure) -> Bool {
        !isQuoted && layout._withUnsafeGuaranteedRef { UnsafeRawBufferPointer(start: cell, count: cellCount).elementsEqual($0.nullText) }
    }

    public mutating func readBool() throws(FormatFailure) -> Bool {
        let bytes = UnsafeRawBufferPointer(start: cell, count: cellCount)
        func isWord(_ word: StaticString) -> Bool {
            bytes.count == word.utf8CodeUnitCount
                && zip(bytes, UnsafeBufferPointer(start: word.utf8Start, count: bytes.count)).allSatisfy { $0 | 0x20 == $1 }
        }
        if isWord("true") || bytes.elementsEqual([UInt8(ascii: "1")]) { return true }
        if isWord("false") || bytes.elementsEqual([UInt8(ascii: "0")]) { return false }
        throw unexpected("true or false")
    }

    @inlinable
    public mutating func readInteger<T: FixedWidthInteger>(_ type: T.Type) throws(FormatFailure) -> T {
        guard cellCount > 0 else { throw unexpected("an integer") }
        let first = cell.load(as: UInt8.self)
        var index = first == UInt8(ascii: "-") || first == UInt8(ascii: "+") ? 1 : 0
        guard index < cellCount else { throw unexpected("an integer") }
        var value: T = 0
        while index < cellCount {
            let digit = cell.load(fromByteOffset: index, as: UInt8.self) &- UInt8(ascii: "0")
            guard digit < 10 else { throw unexpected("an integer") }
            let (product, overflows) = value.multipliedReportingOverflow(by: 10)
            let digits = T(truncatingIfNeeded: digit)
            let (sum, carries) =
                first == UInt8(ascii: "-") ? product.subtractingReportingOverflow(digits) : product.addingReportingOverflow(digits)
            guard !overflows, !carries else { throw outOfRange(T.self) }
            value = sum
            index += 1
        }
        return value
    }

    @usableFromInline @inline(never)
    func outOfRange(_ type: Any.Type) -> FormatFailure {
        let text = String(decoding: UnsafeRawBufferPointer(start: cell, count: min(cellCount, 40)), as: UTF8.self)
        return failure(.outOfRange, "\(text) does not fit \(type)")
    }

    public mutating func readDouble() throws(FormatFailure) -> Double {
        // What JSON can write is read as there; the rest, as "+1", ".5" and "nan", is rare.
        if let value = number({ json throws(JSONFailure) in try json.readDouble() }) { return value }
        guard let value = Double(text) else { throw unexpected("a number") }
        return value
    }

    public mutating func readFloat() throws(FormatFailure) -> Float {
        if let value = number({ json throws(JSONFailure) in try json.readFloat() }) { return value }
        guard let value = Float(text) else { throw unexpected("a number") }
        return value
    }

    private func number<T>(_ read: (inout JSONReader) throws(JSONFailure) -> T) -> T? {
        guard cellCount > 0, cell.load(as: UInt8.self) > 0x20 else { return nil }
        var json = JSONReader(UnsafeRawBufferPointer(start: cell, count: cellCount))
        guard let value = try? read(&json), json.offset == cellCount else { return nil }
        return value
    }

    /// The cell as it is, for numbers.
    private var text: String { String(decoding: UnsafeRawBufferPointer(start: cell, count: cellCount), as: UTF8.self) }

    public mutating func readString() throws(FormatFailure) -> String {
        let bytes = UnsafeRawBufferPointer(start: cell, count: cellCount)
        let text = hasEscapes ? String(validating: Self.unescaped(bytes), as: UTF8.self) : String(validating: bytes, as: UTF8.self)
        guard let text else { throw failure(.invalidString, "a cell that is not UTF-8") }
        return text
    }

    /// Two quotes are one.
    private static func unescaped(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            result.append(bytes[index])
            index += bytes[index] == UInt8(ascii: "\"") ? 2 : 1
        }
        return result
    }

    public mutating func readBytes() throws(FormatFailure) -> [UInt8] { throw unexpected("bytes, which CSV does not have") }

    public struct ArrayPlace { fileprivate init() {} }
    public mutating func beginArray() throws(FormatFailure) -> ArrayPlace { throw unexpected("an array, which CSV does not have") }
    public mutating func nextElement(_ place: inout ArrayPlace) throws(FormatFailure) -> Bool { false }
}
