import Testing
import WeirBase
import WeirDataflow
import WeirFormats

@testable import WeirStreams

/// The first version of a record, and later ones of the same name: each in a space of its own.
private enum First {
    @Record struct Leg {
        var from: String
        var length: Double
    }
    @Record struct Trip {
        var driver: String
        var count: Int32
        var legs: [Leg]
        var comment: String?
        var raw: [UInt8]
    }
}

/// One added with a default, one optional added, one removed, one renamed, one become optional, in another order and nested.
private enum Second {
    @Record struct Leg {
        var speed: Double = 50
        @Field("length") var distance: Double
    }
    @Record struct Trip {
        var raw: [UInt8]
        var vehicle: String?
        @Field("driver") var person: String?
        var legs: [Leg]
        var count: Int32
        var tags: [String] = ["new"]
    }
}

private enum Refused {
    @Record struct Added {
        var driver: String
        var cost: Int64
    }
    @Record struct Retyped {
        var driver: String
        var count: Int64
    }
    @Record struct Nested {
        @Record struct Leg {
            var from: String
            var length: String
        }
        var legs: [Leg]
    }
    @Record struct Required {
        var comment: String
    }
    @Record struct Twice {
        @Field("driver") var first: String
        @Field("other") var driver: String
    }
}

@Suite struct RecordMigrationTests {
    private let trip = First.Trip(
        driver: "ada", count: 3, legs: [First.Leg(from: "a", length: 1.5), First.Leg(from: "b", length: 2.5)], comment: "x", raw: [1, 2])

    private func store() -> KeyedStateStore {
        KeyedStateStore(keyGroups: 0..<128, maxParallelism: 128, wallTime: { 1_000 }, migration: RecordMigration())
    }

    private func parts(_ store: KeyedStateStore) -> [RestoredState.Keyed] {
        let builder = SnapshotBuilder(checkpoint: 1)
        store.snapshot(into: builder)
        return builder.keyed.map { part in
            var writer = ByteWriter()
            part.part.encode(into: &writer)
            return RestoredState.Keyed(name: part.name, keyGroups: 0..<128, bytes: writer.finish())
        }
    }

    /// State of every kind with the first version in it.
    private func written() throws -> [RestoredState.Keyed] {
        let store = store()
        let value = try store.value("value", of: First.Trip.self)
        let timed = try store.value("timed", of: First.Trip.self, ttl: StateTTL(.seconds(60)))
        let list = try store.list("list", of: First.Trip.self)
        let map = try store.map("map", of: String.self, to: First.Trip.self)
        store.currentKey.set("k", hash: "k".keyHash)
        value.value = trip
        timed.value = trip
        list.elements = [trip, trip]
        map["m"] = trip
        return parts(store)
    }

    private func check(_ trip: Second.Trip?) {
        #expect(trip?.person == "ada" && trip?.count == 3 && trip?.raw == [1, 2])
        #expect(trip?.vehicle == nil && trip?.tags == ["new"])
        #expect(trip?.legs.map(\.distance) == [1.5, 2.5] && trip?.legs.map(\.speed) == [50, 50])
    }

    @Test func fieldsThatWereAddedRemovedRenamedOrMadeOptionalAreRead() throws {
        let store = store()
        try store.restore(from: RestoredState(checkpoint: 1, keyed: try written()))
        store.currentKey.set("k", hash: "k".keyHash)
        check(try store.value("value", of: Second.Trip.self).value)
        check(try store.value("timed", of: Second.Trip.self, ttl: StateTTL(.seconds(60))).value)
        let list = try store.list("list", of: Second.Trip.self).elements
        #expect(list.count == 2)
        list.forEach { check($0) }
        check(try store.map("map", of: String.self, to: Second.Trip.self)["m"])
        // From then on it is of the new schema.
        let again = self.store()
        try again.restore(from: RestoredState(checkpoint: 2, keyed: parts(store)))
        again.currentKey.set("k", hash: "k".keyHash)
        check(try again.value("value", of: Second.Trip.self).value)
    }

    private func refusal<Value: BinaryCodable>(_ type: Value.Type) throws -> String {
        let store = store()
        try store.restore(from: RestoredState(checkpoint: 1, keyed: try written().filter { $0.name == "value" }))
        let failure = #expect(throws: JobFailure.self) { _ = try store.value("value", of: type) }
        #expect(failure?.message.contains("\"value\"") == true)
        return failure?.cause ?? ""
    }

    @Test func anythingElseIsRefusedByTheNameOfTheField() throws {
        #expect(try refusal(Refused.Added.self).contains("no field cost"))
        #expect(try refusal(Refused.Retyped.self).contains("field count was int32 and is int64"))
        #expect(try refusal(Refused.Nested.self).contains("field legs[].length was double and is string"))
        #expect(try refusal(Refused.Required.self).contains("field comment was string? and is string"))
        #expect(try refusal(Refused.Twice.self).contains("what was driver"))
        #expect(try refusal(Int.self).contains("was Trip{") || refusal(Int.self).contains("and is int64"))
        #expect(try refusal(NumberSummary.self).contains("only values that are @Record"))
    }

    @Test func everyPrefixOfOldStateThrows() throws {
        let part = try #require(try written().first { $0.name == "value" })
        for end in part.bytes.indices {
            let store = store()
            try store.restore(
                from: RestoredState(checkpoint: 1, keyed: [.init(name: "value", keyGroups: 0..<128, bytes: Array(part.bytes[..<end]))]))
            #expect(throws: JobFailure.self) { _ = try store.value("value", of: Second.Trip.self) }
        }
    }

    @Test func theTextOfASchemaIsReadBackAndAnyOtherIsRefused() throws {
        let schemas: [Schema] = [
            First.Trip.schema, Second.Trip.schema, .optional(.optional(.array(.bytes))), .record(name: "Empty", fields: []), .uint32,
        ]
        for schema in schemas {
            #expect(try Schema(canonical: schema.canonical) == schema)
            for end in schema.canonical.indices.dropFirst() {
                let text = String(schema.canonical[..<end])
                if let read = try? Schema(canonical: text) { #expect(read.canonical == text) }
            }
        }
        for text in ["", "[", "int33", "A{", "A{b}", "A{b:int32,}", "int32]", "A{b:int32}}", String(repeating: "[", count: 100_000)] {
            #expect(throws: DecodingFailure.self) { try Schema(canonical: text) }
        }
    }
}
