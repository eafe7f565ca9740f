import Synchronization
import Testing
import WeirBase
import WeirFormats

/// Comma-separated numbers: none or many rows a record, and `-1` ends the data.
private struct NumbersFormat: DeserializationSchema {
    func decode(_ bytes: UnsafeRawBufferPointer) throws -> Int { 0 }

    func decode(_ bytes: UnsafeRawBufferPointer, emit: (consuming Int) throws -> Void) throws {
        for part in String(decoding: bytes, as: UTF8.self).split(separator: ",") { try emit(Int(part) ?? 0) }
    }

    func isEndOfStream(_ row: Int) -> Bool { row == -1 }
}

@Suite struct SchemaTests {
    private func rows<Format: DeserializationSchema>(_ text: String, _ format: Format) throws -> [Format.Row] {
        var rows: [Format.Row] = []
        try Array(text.utf8).withUnsafeBytes { try format.decode($0) { rows.append($0) } }
        return rows
    }

    @Test func aRecordGivesOneRowUnlessTheSchemaSaysOtherwise() throws {
        #expect(try rows("a", StringFormat()) == ["a"])
        #expect(try rows("1,2,3", NumbersFormat()) == [1, 2, 3])
        #expect(try rows("", NumbersFormat()).isEmpty)
    }

    @Test func noRowEndsTheDataUnlessTheSchemaSaysSo() {
        #expect(!StringFormat().isEndOfStream("-1"))
        #expect(NumbersFormat().isEndOfStream(-1))
        #expect(!NumbersFormat().isEndOfStream(1))
    }

    @Test func aPendingSchemaTellsWhatItWaitsForAndCallsBack() {
        let calls = Mutex(0)
        let pending = SchemaPending("schema 17") { $0() }
        pending.whenReady { calls.withLock { $0 += 1 } }
        #expect(calls.withLock { $0 } == 1)
        #expect("\(pending)" == "waiting for schema 17")
    }
}
