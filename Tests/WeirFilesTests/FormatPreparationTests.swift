import Foundation
import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirFiles

/// Text whose lines that begin with "later" need a schema, which a test lets come.
private struct Gated: DeserializationSchema, SerializationSchema {
    final class Gate: Sendable {
        struct State {
            var isOpen = false
            var asked = 0
            var waiting: [@Sendable () -> Void] = []
        }
        let state = Mutex(State())

        func open() {
            let bodies = state.withLock { state in
                state.isOpen = true
                defer { state.waiting = [] }
                return state.waiting
            }
            for body in bodies { body() }
        }
    }

    let gate = Gate()
    var failure: JobFailure?

    func decode(_ bytes: UnsafeRawBufferPointer) throws -> String {
        let text = String(decoding: bytes, as: UTF8.self)
        let isPending = gate.state.withLock { state in
            guard text.hasPrefix("later"), !state.isOpen else { return false }
            state.asked += 1
            return true
        }
        if isPending { throw SchemaPending("the gate") { [gate] body in gate.state.withLock { $0.waiting.append(body) } } }
        return text
    }

    /// Waits for the gate, as for a registry.
    func prepare() throws {
        while !gate.state.withLock({ $0.isOpen }) { usleep(1_000) }
        if let failure { throw failure }
    }

    func encode(_ row: String, into writer: inout ByteWriter) throws { writer.writeBytes(Array(row.utf8)) }
}

@Suite struct FormatPreparationTests {
    @Test func aLineWhoseSchemaIsStillToComeWaitsAndIsNoBadOne() async throws {
        let directory = try TemporaryDirectory()
        let file = try directory.write("f", "a\nlater b\nc\n")
        let format = Gated()
        let source = LinesSource(file, format: format).onBadLine(.skip)
        let harness = try SourceHarness(source)
        try await harness.run { format.gate.state.withLock { $0.asked } == 1 }
        #expect(try harness.source.poll(budget: 1_024) == .idle(wakeAfter: nil))
        #expect(format.gate.state.withLock { $0.asked } == 1, "it is not asked again before the schema has come")
        let state = try harness.snapshot()
        #expect(harness.rows == ["a"] && harness.context.counter("deserializationErrors").value == 0)

        format.gate.open()
        try await harness.run()
        #expect(harness.isFinished)
        #expect(harness.rows == ["a", "later b", "c"])

        // A checkpoint of the time of waiting has the line still to come.
        let restored = try SourceHarness(source, restoring: state)
        try await restored.run()
        #expect(restored.rows == ["later b", "c"])
    }

    @Test func aSinkTakesNoRowsUntilItsFormatIsReadyAndBlocksNobody() throws {
        let output = try Output()
        let format = Gated()
        let harness = try SinkHarness(LinesSink(output.path, format: format), waits: false)
        #expect(try !harness.sink.isReady())
        format.gate.open()
        try harness.waitUntilReady()
        try harness.write(["a"])
        try harness.finish()
        #expect(try output.lines == ["a"])
    }

    @Test func aFormatThatCannotBePreparedFailsTheTask() throws {
        let directory = try TemporaryDirectory()
        var format = Gated()
        format.failure = JobFailure(domain: .external, recovery: .fail, message: "no permission to register the schema")
        format.gate.open()
        let failure = #expect(throws: JobFailure.self) { try SinkHarness(LinesSink(directory.path + "/out", format: format)) }
        #expect(failure?.message == "no permission to register the schema")
    }
}
