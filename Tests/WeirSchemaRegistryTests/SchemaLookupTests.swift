import Testing
import WeirBase
import WeirFormats
import WeirSchemaRegistry

private func instant(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
private let down = JobFailure(domain: .external, recovery: .restart, message: "down")
private let none = FormatFailure("Avro", .unknownSchema, "none", offset: 1)

/// An answer without its schema, for comparing.
private func words(_ answer: SchemaLookup.Answer) -> String {
    switch answer {
    case .schema(let schema): schema.text
    case .absent(let failure): failure.message
    case .unreachable(let failure): failure.message
    case .pending: "pending"
    }
}

@Suite struct SchemaLookupTests {
    private func lookup(timeout: Int64 = 1_000) -> SchemaLookup {
        var limits = SchemaLookup.Limits()
        limits.timeout = .milliseconds(timeout)
        limits.absenceLifetime = .milliseconds(500)
        limits.failureLifetime = .milliseconds(100)
        return SchemaLookup(limits: limits)
    }

    private func ask(_ lookup: inout SchemaLookup, _ id: UInt32 = 7, at time: Int64) -> (String, [SchemaLookup.Effect]) {
        let (answer, effects) = lookup.ask(id, now: instant(time))
        return (words(answer), effects)
    }

    @Test func anIDIsAskedForOnceAndThenKnown() throws {
        var lookup = lookup()
        #expect(ask(&lookup, at: 0) == ("pending", [.request(7)]))
        #expect(ask(&lookup, at: 1) == ("pending", []))
        #expect(lookup.finish(7, .schema(try AvroSchema(parsing: "\"int\"")), now: instant(2)) == [.wake(7)])
        #expect(ask(&lookup, at: 1_000_000) == ("\"int\"", []))
        #expect(lookup.finish(7, .failed(down), now: instant(3)) == [], "a late second answer changes nothing")
        #expect(ask(&lookup, at: 4) == ("\"int\"", []))
    }

    @Test func aFailureIsRetriedWithLongerPausesUntilTheTimeoutThenTold() {
        var lookup = lookup()
        _ = ask(&lookup, at: 0)
        #expect(lookup.finish(7, .failed(down), now: instant(0)) == [.requestLater(7, .milliseconds(100))])
        #expect(lookup.finish(7, .failed(down), now: instant(100)) == [.requestLater(7, .milliseconds(200))])
        #expect(lookup.finish(7, .failed(down), now: instant(300)) == [.requestLater(7, .milliseconds(400))])
        #expect(ask(&lookup, at: 650) == ("pending", []))
        #expect(lookup.finish(7, .failed(down), now: instant(700)) == [.wake(7)])
        #expect(ask(&lookup, at: 799) == ("down", []))
        #expect(ask(&lookup, at: 800) == ("pending", [.request(7)]), "the next attempt of the job asks anew")
    }

    @Test func pausesAreBounded() {
        var lookup = lookup(timeout: 10_000_000)
        _ = ask(&lookup, at: 0)
        var effects: [SchemaLookup.Effect] = []
        for _ in 0..<100 { effects = lookup.finish(7, .failed(down), now: instant(0)) }
        #expect(effects == [.requestLater(7, .seconds(5))])
    }

    @Test func aRefusalIsNotRetried() {
        var lookup = lookup()
        _ = ask(&lookup, at: 0)
        #expect(lookup.finish(7, .refused(down), now: instant(0)) == [.wake(7)])
        #expect(ask(&lookup, at: 1) == ("down", []))
    }

    @Test func anAbsentSchemaIsRememberedForAWhile() {
        var lookup = lookup()
        _ = ask(&lookup, at: 0)
        #expect(lookup.finish(7, .absent(none), now: instant(0)) == [.wake(7)])
        #expect(ask(&lookup, at: 499) == ("none", []))
        #expect(ask(&lookup, at: 500) == ("pending", [.request(7)]))
    }

    @Test func absentSchemasAreForgottenBeyondTheirBound() throws {
        var lookup = lookup()
        _ = ask(&lookup, 1, at: 0)
        _ = lookup.finish(1, .schema(try AvroSchema(parsing: "\"int\"")), now: instant(0))
        for id in 2..<UInt32(2 + SchemaLookup.absentMax) {
            _ = ask(&lookup, id, at: 0)
            _ = lookup.finish(id, .absent(none), now: instant(0))
        }
        #expect(ask(&lookup, 2, at: 1) == ("none", []))
        _ = ask(&lookup, 99_999, at: 1)
        _ = lookup.finish(99_999, .absent(none), now: instant(1))
        #expect(ask(&lookup, 2, at: 1) == ("pending", [.request(2)]))
        #expect(ask(&lookup, 99_999, at: 1) == ("none", []))
        #expect(ask(&lookup, 1, at: 1) == ("\"int\"", []))
    }
}
