import Dispatch
import Foundation
import Synchronization
import Testing
import WeirBase
import WeirFormats
import WeirTestKit

@testable import WeirSchemaRegistry

@Record struct Reading: Equatable {
    var id: String
    var value: Double?
}

private let schemaText = #"{"type":"record","name":"Reading","fields":[{"name":"id","type":"string"},{"name":"value","type":["null","double"]}]}"#
private let absence = #"{"error_code":40403,"message":"Schema 7 not found"}"#

private func envelope(_ text: String, _ rest: String = "") -> String {
    #"{"schema":"\#(text.replacing("\"", with: "\\\""))"\#(rest)}"#
}

private func registry(_ address: String, _ change: (inout ConfluentSchemaRegistry.Options) -> Void = { _ in }) throws -> ConfluentSchemaRegistry {
    var options = ConfluentSchemaRegistry.Options()
    options.requestTimeout = .seconds(3)
    options.timeout = .seconds(10)
    change(&options)
    var limits = SchemaLookup.Limits()
    limits.firstBackoff = .milliseconds(20)
    return try ConfluentSchemaRegistry(address, options: options, limits: limits)
}

/// Asks until the schema is there, as a source does: again only after the call-back.
private func fetch(_ id: UInt32, _ registry: ConfluentSchemaRegistry) throws -> AvroSchema {
    for _ in 0..<100 {
        do {
            return try registry.schema(id: id)
        } catch let pending as SchemaPending {
            let ready = DispatchSemaphore(value: 0)
            pending.whenReady { ready.signal() }
            try #require(ready.wait(timeout: .now() + 30) == .success, "the call-back comes")
        }
    }
    throw FormatFailure("test", .malformed, "the schema never came")
}

private func problem(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch {
        return "\(error)"
    }
}

@Suite struct ConfluentSchemaRegistryTests {
    @Test func aSchemaIsFetchedOnceInTheBackground() throws {
        let server = RegistryServer { _ in .reply(200, envelope(schemaText)) }
        defer { server.stop() }
        let registry = try registry(server.address + "/")
        let pending = #expect(throws: SchemaPending.self) { try registry.schema(id: 7) }
        #expect(pending?.subject == "schema 7 of \(server.address)")
        for _ in 0..<3 { #expect(try fetch(7, registry).text == schemaText) }
        #expect(server.received.map(\.path) == ["/schemas/ids/7"])
        #expect(server.received.map(\.method) == ["GET"])
    }

    @Test func recordsOfARegistryAreReadAndWritten() throws {
        let server = RegistryServer { request in
            request.method == "POST" ? .reply(200, #"{"id":258}"#) : .reply(200, envelope(schemaText))
        }
        defer { server.stop() }
        let registry = try registry(server.address)
        let format = try AvroFormat(Reading.self, framing: .registry(registry, subject: "my readings/value"))
        try format.prepare()
        let post = try #require(server.received.first)
        #expect(post.path == "/subjects/my%20readings%2Fvalue/versions")
        #expect(post.headers["content-type"] == "application/vnd.schemaregistry.v1+json")
        #expect(try JSONTree(parsing: post.body)["schema"]?.stringValue == format.schema.text)

        var writer = ByteWriter()
        let row = Reading(id: "a", value: 1.5)
        try format.encode(row, into: &writer)
        let bytes = writer.finish()
        #expect(bytes.prefix(5) == [0, 0, 0, 1, 2])
        _ = try? bytes.withUnsafeBytes { try format.decode($0) }
        _ = try fetch(258, registry)
        #expect(try bytes.withUnsafeBytes { try format.decode($0) } == row)
    }

    @Test func aRegistryThatComesBackIsAskedAgain() throws {
        let count = Mutex(0)
        let server = RegistryServer { _ in
            let number = count.withLock { count in
                count += 1
                return count
            }
            switch number {
            case 1: return .hangUp
            case 2: return .reply(500, "oops")
            case 3: return .reply(200, "<html>not a registry</html>")
            case 4: return .reply(404, "<html>no such page</html>")
            default: return .reply(200, envelope(schemaText))
            }
        }
        defer { server.stop() }
        #expect(try fetch(7, registry(server.address)).text == schemaText)
        #expect(server.received.count == 5)
    }

    @Test func theNextAddressIsTriedWhereOneDoesNotAnswer() throws {
        let first = RegistryServer { _ in .reply(503, "starting") }
        let second = RegistryServer { _ in .reply(200, envelope(schemaText)) }
        defer {
            first.stop()
            second.stop()
        }
        #expect(try fetch(7, registry("\(first.address), \(second.address)")).text == schemaText)
        #expect(first.received.count == 1)
    }

    @Test func aRegistryThatIsDownFailsTheJobAfterTheTimeout() throws {
        let server = RegistryServer { _ in .silence }
        let address = server.address
        let registry = try registry(address) {
            $0.requestTimeout = .milliseconds(300)
            $0.timeout = .milliseconds(700)
        }
        do {
            _ = try fetch(7, registry)
            Issue.record("a schema came out of nowhere")
        } catch let failure as JobFailure {
            #expect(failure.domain == .external && failure.recovery == .restart)
            #expect(failure.message == "cannot fetch schema 7 of the registry at \(address)")
            #expect(failure.cause?.isEmpty == false)
        }
        server.stop()
        let text = try #require(problem { _ = try registry.register(AvroSchema(parsing: "\"int\""), subject: "s") })
        #expect(text.hasPrefix("external error: cannot register the schema of subject s at \(address)\n  cause: "))
    }

    @Test func anUnknownIDMakesTheRecordABadOne() throws {
        let server = RegistryServer { _ in .reply(404, absence) }
        defer { server.stop() }
        let registry = try registry(server.address)
        for _ in 0..<2 {
            #expect(
                problem { _ = try fetch(7, registry) }
                    == "Avro, byte 1: a record of schema 7, which the registry at \(server.address) does not have")
        }
        #expect(server.received.count == 1)
    }

    @Test(arguments: [
        (envelope(schemaText, #","schemaType":"PROTOBUF""#), "is of the type PROTOBUF, and no Avro"),
        (envelope("\"it\""), "is none: the type \"it\" is not defined, or only further down"),
    ])
    func schemasThatCannotBeReadMakeTheRecordABadOne(body: String, message: String) throws {
        let server = RegistryServer { _ in .reply(200, body) }
        defer { server.stop() }
        #expect(
            problem { _ = try fetch(7, try registry(server.address)) }
                == "Avro, byte 1: schema 7 of the registry at \(server.address) \(message)")
    }

    // MARK: References

    private static func references(_ subjects: (String, Int)...) -> String {
        #","references":["# + subjects.map { #"{"name":"n","subject":"\#($0.0)","version":\#($0.1)}"# }.joined(separator: ",") + "]"
    }

    /// An order mentions a customer and an address; the customer mentions the address too.
    @Test func whatASchemaRefersToIsFetchedOnceAndParsedFirst() throws {
        let order = #"{"type":"record","name":"Order","fields":[{"name":"by","type":"com.acme.Customer"},{"name":"to","type":"com.acme.Address"}]}"#
        let customer = #"{"type":"record","name":"Customer","namespace":"com.acme","fields":[{"name":"home","type":"Address"}]}"#
        let address = #"{"type":"record","name":"com.acme.Address","fields":[{"name":"town","type":"string"}]}"#
        let server = RegistryServer { request in
            switch request.path {
            case "/schemas/ids/7": .reply(200, envelope(order, Self.references(("customer/value", 3), ("address", 1))))
            case "/subjects/customer%2Fvalue/versions/3": .reply(200, envelope(customer, Self.references(("address", 1))))
            case "/subjects/address/versions/1": .reply(200, envelope(address))
            default: .reply(404, absence)
            }
        }
        defer { server.stop() }
        let schema = try fetch(7, registry(server.address))
        #expect(schema.text == order)
        #expect(
            schema.canonicalForm
                == #"{"name":"Order","type":"record","fields":[{"name":"by","type":{"name":"com.acme.Customer","type":"record","fields":"#
                + #"[{"name":"home","type":{"name":"com.acme.Address","type":"record","fields":[{"name":"town","type":"string"}]}}]}},"#
                + #"{"name":"to","type":"com.acme.Address"}]}"#)
        #expect(server.received.count == 3)
    }

    @Test func aReferenceThatIsNotThereOrInACircleMakesTheRecordABadOne() throws {
        let server = RegistryServer { request in
            switch request.path {
            case "/schemas/ids/7": .reply(200, envelope("\"a\"", Self.references(("gone", 2))))
            case "/schemas/ids/8": .reply(200, envelope("\"a\"", Self.references(("circle", 1))))
            case "/subjects/circle/versions/1": .reply(200, envelope("\"b\"", Self.references(("circle", 1))))
            default: .reply(404, #"{"error_code":40402,"message":"Version 2 not found"}"#)
            }
        }
        defer { server.stop() }
        let registry = try registry(server.address)
        let place = "of the registry at \(server.address)"
        #expect(
            problem { _ = try fetch(7, registry) }
                == "Avro, byte 1: schema 7 \(place) refers to version 2 of subject gone, which is not there")
        #expect(
            problem { _ = try fetch(8, registry) }
                == "Avro, byte 1: schema 8 \(place) is none: the type \"b\" is not defined, or only further down")
    }

    @Test func tooManyReferencesAreRefused() throws {
        // Each version refers to the next one.
        var references = SchemaReferences([.init(subject: "s", version: 0)])
        for number in 0..<SchemaReferences.countMax {
            #expect(try references.next() == .init(subject: "s", version: Int64(number)))
            references.take("\"int\"", [.init(subject: "s", version: Int64(number + 1))])
        }
        #expect(throws: SchemaReferences.TooMany.self) { try references.next() }
    }

    @Test func aRegistryThatFailsInTheMiddleIsAskedAgainFromTheStart() throws {
        let failures = Mutex(1)
        let server = RegistryServer { request in
            guard request.path == "/subjects/a/versions/1" else {
                return .reply(200, envelope(#"{"type":"array","items":"a"}"#, Self.references(("a", 1))))
            }
            let isFailing = failures.withLock { count in
                count -= 1
                return count >= 0
            }
            return isFailing ? .reply(500, "oops") : .reply(200, envelope(#"{"type":"fixed","name":"a","size":2}"#))
        }
        defer { server.stop() }
        _ = try fetch(7, registry(server.address))
        #expect(server.received.map(\.path) == ["/schemas/ids/7", "/subjects/a/versions/1", "/schemas/ids/7", "/subjects/a/versions/1"])
    }

    // MARK: Security

    @Test func optionsDoNotTellTheirSecrets() {
        var options = ConfluentSchemaRegistry.Options()
        options.user = "reader"
        options.password = "hunter2"
        var tokens = ConfluentSchemaRegistry.Options()
        tokens.bearerToken = "hunter2"
        for options in [options, tokens] {
            var dumped = ""
            dump(options, to: &dumped)
            for text in ["\(options)", String(reflecting: options), dumped] {
                #expect(!text.contains("hunter2") && text.contains("*****"), "\(text)")
            }
        }
        #expect("\(options)".contains("user reader"))
    }

    @Test func credentialsAreSentAndRefusalsTold() throws {
        let server = RegistryServer { request in
            request.headers["authorization"] == "Basic " + Data("u:p".utf8).base64EncodedString()
                ? .reply(200, envelope(schemaText)) : .reply(401, #"{"error_code":40101,"message":"who are you"}"#)
        }
        defer { server.stop() }
        #expect(
            try fetch(
                7,
                registry(server.address) {
                    $0.user = "u"
                    $0.password = "p"
                }
            ).text == schemaText)
        let failure = #expect(throws: JobFailure.self) { try fetch(7, try registry(server.address) { $0.bearerToken = "t" }) }
        #expect(failure?.recovery == .fail)
        #expect(
            failure?.message
                == "the registry at \(server.address) does not permit to read schema 7 of the registry at \(server.address): check user and password")
        #expect(failure?.cause == "who are you")
        #expect(server.received.last?.headers["authorization"] == "Bearer t")
    }

    @Test(arguments: [
        (409, #"{"error_code":409,"message":"incompatible"}"#, "the registry refuses the schema of subject s at ADDRESS: it does not go with"),
        (422, #"{"error_code":42201,"message":"bad"}"#, "the registry refuses the schema of subject s at ADDRESS"),
        (403, #"{"error_code":40301,"message":"no"}"#, "no permission to register the schema of subject s at ADDRESS: check user and password"),
    ])
    func aSinksSchemaThatIsRefusedFailsTheJobForGood(status: Int, body: String, message: String) throws {
        let server = RegistryServer { _ in .reply(status, body) }
        defer { server.stop() }
        let registry = try registry(server.address)
        let failure = #expect(throws: JobFailure.self) { try registry.register(try AvroSchema(parsing: "\"int\""), subject: "s") }
        #expect(failure?.recovery == .fail)
        #expect(failure?.message.hasPrefix(message.replacing("ADDRESS", with: server.address)) == true)
        #expect(server.received.count == 1)
    }

    @Test func aSchemaIsLookedUpWhereSinksMayNotRegister() throws {
        let server = RegistryServer { request in
            request.path == "/subjects/known" ? .reply(200, #"{"subject":"known","id":5,"version":1}"#) : .reply(404, absence)
        }
        defer { server.stop() }
        let registry = try registry(server.address) { $0.registersSchemas = false }
        #expect(try registry.register(AvroSchema(parsing: "\"int\""), subject: "known") == 5)
        let failure = #expect(throws: JobFailure.self) { try registry.register(try AvroSchema(parsing: "\"int\""), subject: "other") }
        #expect(failure?.message.contains("is not registered: register it, or let the sink do it (registersSchemas)") == true)
    }

    @Test func anAnswerWithoutEndIsNotCollected() throws {
        let huge = String(repeating: " ", count: 5 << 20)
        let server = RegistryServer { _ in .reply(200, huge) }
        defer { server.stop() }
        let registry = try registry(server.address) { $0.timeout = .seconds(3) }
        let failure = #expect(throws: JobFailure.self) { try fetch(7, registry) }
        #expect(failure?.cause == "an answer of more than 4194304 bytes")
    }

    @Test func mistakesInTheAddressAndOptionsAreAllTold() {
        do {
            _ = try registry("localhost:8081,http://u:p@host") {
                $0.timeout = .seconds(1)
                $0.user = "u"
            }
            Issue.record("a registry without an address was made")
        } catch {
            #expect(
                (error as? ConfigurationError)?.problems == [
                    "the timeout of a schema registry is shorter than that of one request",
                    "a schema registry needs both a user and a password, or neither",
                    "\"localhost:8081\" is no address of a schema registry, such as http://localhost:8081",
                    "the address of the schema registry at host holds a password: set the options' user and password",
                ])
        }
    }

    @Test func clientsLeaveNothingBehind() throws {
        let server = RegistryServer { _ in .reply(200, envelope(schemaText)) }
        defer { server.stop() }
        for _ in 0..<3 { _ = try fetch(7, registry(server.address)) }
        weak var last: ConfluentSchemaRegistry?
        do {
            let registry = try registry(server.address)
            last = registry
            _ = try fetch(7, registry)
        }
        // A task of the session may hold it for a moment longer.
        let deadline = ContinuousClock.now + .seconds(10)
        while last != nil, ContinuousClock.now < deadline { usleep(1_000) }
        #expect(last == nil)
    }
}
