import Foundation
import Testing
import WeirBase
import WeirKafkaWire

/// A message that another codec wrote.
struct ForeignMessage: Sendable, CustomTestStringConvertible {
    var api: ApiKey
    var version: Int16
    var isRequest: Bool
    var bytes: [UInt8]

    var schema: StructSchema { isRequest ? ApiSchema.of(api).request : ApiSchema.of(api).response }
    var isFlexible: Bool { ApiSchema.of(api).isFlexible(version) }
    var testDescription: String { "\(api) \(version) \(isRequest ? "request" : "response")" }

    static let all: [ForeignMessage] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/messages.txt").path
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.compactMap { line -> ForeignMessage? in
            let words = line.split(separator: " ", omittingEmptySubsequences: false)
            guard let api = ApiKey(name: String(words[0])), let version = Int16(words[1]) else { return nil }
            return ForeignMessage(api: api, version: version, isRequest: words[2] == "request", bytes: unhex(words[3]))
        }
    }()
}

func unhex(_ hexadecimal: some StringProtocol) -> [UInt8] {
    var digits = Substring(hexadecimal)
    var bytes: [UInt8] = []
    while !digits.isEmpty {
        bytes.append(UInt8(digits.prefix(2), radix: 16) ?? 0)
        digits = digits.dropFirst(2)
    }
    return bytes
}

/// The pieces of a message in one.
func joined(_ pieces: [KafkaBytes]) -> KafkaBytes { KafkaBytes(pieces.flatMap(\.array)) }

@Suite struct CodecTests {
    @Test func theFixtureHasEveryApi() {
        #expect(ForeignMessage.all.count > 300)
        #expect(Set(ForeignMessage.all.map(\.api)) == Set(ApiKey.allCases))
    }

    @Test(arguments: ForeignMessage.all) func whatAnotherCodecWroteIsReadAndWrittenAgainAsItWas(message: ForeignMessage) throws {
        var reader = MessageReader(KafkaBytes(message.bytes))
        let value = try message.schema.decode(&reader, version: message.version, flexible: message.isFlexible)
        try reader.expectEnd()
        var writer = MessageWriter()
        message.schema.encode(value, to: &writer, version: message.version, flexible: message.isFlexible)
        #expect(joined(writer.finish()).array == message.bytes)
    }

    @Test(arguments: ApiKey.allCases) func everyVersionOfTheDefaultsSurvivesARoundTrip(api: ApiKey) throws {
        let schema = ApiSchema.of(api)
        for version in schema.versions.lowest...schema.versions.highest {
            let request = KafkaStruct(requestOf: api)
            let frame = joined(KafkaMessage.request(api, version: version, correlationID: 7, clientID: "c", body: request))
            #expect(frame.load(Int32.self, at: 0) == Int32(frame.count - 4))
            let (header, reader) = try KafkaMessage.header(of: frame.slice(from: 4))
            #expect(header == RequestHeader(apiKey: api.rawValue, apiVersion: version, correlationID: 7, clientID: "c"))
            _ = try KafkaMessage.requestBody(reader, api: schema, version: version)
            let response = KafkaStruct(responseOf: api)
            let answer = joined(KafkaMessage.response(api, version: version, correlationID: -3, body: response))
            #expect(try KafkaMessage.decodeResponse(api, version: version, frame: answer.slice(from: 4)).correlationID == -3)
        }
    }

    @Test func fieldsThatAVersionDoesNotHaveHoldTheirDefaults() throws {
        var request = KafkaStruct(requestOf: .fetch)
        request["sessionEpoch"] = 5
        request["rackId"] = "r"
        let frame = joined(KafkaMessage.request(.fetch, version: 4, correlationID: 1, clientID: nil, body: request))
        let (header, reader) = try KafkaMessage.header(of: frame.slice(from: 4))
        let decoded = try KafkaMessage.requestBody(reader, api: ApiSchema.of(.fetch), version: header.apiVersion)
        #expect(header.clientID == nil)
        #expect(decoded.int32("sessionEpoch") == -1)
        #expect(decoded.string("rackId") == "")
    }

    @Test func theHeaderOfAnApiVersionsResponseNeverHasTags() {
        let response = joined(KafkaMessage.response(.apiVersions, version: 3, correlationID: 9, body: KafkaStruct(responseOf: .apiVersions)))
        // length, correlation, error code, no APIs (compact: 1), throttle time, no tags
        #expect(response.array == unhex("0000000c" + "00000009" + "0000" + "01" + "00000000" + "00"))
    }

    /// As librdkafka 2.16 sends it: the count of the null array has four bytes instead of one.
    @Test func bytesBehindARequestAreIgnored() throws {
        let frame = KafkaBytes([0, 3, 0, 12, 0, 0, 0, 3, 0, 7] + Array("rdkafka".utf8) + [0, 0, 0, 0, 0, 1, 0, 0])
        let (_, reader) = try KafkaMessage.header(of: frame)
        let request = try KafkaMessage.requestBody(reader, api: .of(.metadata), version: 12)
        #expect(request.isNull("topics"))
    }

    @Test func longBytesAreLinkedInAndNotCopied() {
        let records = KafkaBytes([UInt8](repeating: 7, count: 100_000))
        var response = KafkaStruct(responseOf: .fetch)
        response.append(to: "responses") { topic in
            topic["topic"] = "t"
            topic.append(to: "partitions") { $0["records"] = .pieces([records, records]) }
        }
        let pieces = KafkaMessage.response(.fetch, version: 12, correlationID: 1, body: response)
        let shared = pieces.filter { piece in
            piece.withUnsafeBytes { $0.baseAddress } == records.withUnsafeBytes { $0.baseAddress }
        }
        #expect(shared.count == 2)
        #expect(joined(pieces).load(Int32.self, at: 0) == Int32(pieces.reduce(0) { $0 + $1.count } - 4))
    }

    @Test func apisAreFoundByTheirNames() {
        #expect(ApiKey(name: "endtxn") == .endTxn)
        #expect(ApiKey(name: "EndTxns") == nil)
        #expect(Set(ApiKey.allCases.map(\.name)).count == ApiKey.allCases.count)
    }
}
