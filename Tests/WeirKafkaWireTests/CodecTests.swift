import Testing
import WeirKafkaWire

@Suite struct CodecTests {
    @Test(arguments: ApiKey.allCases) func everyVersionOfTheDefaultsSurvivesARoundTrip(api: ApiKey) throws {
        let schema = ApiSchema.of(api)
        for version in schema.versions.lowest...schema.versions.highest {
            let request = KafkaStruct(requestOf: api)
            let frame = joined(KafkaMessage.request(api, version: version, correlationID: 7, clientID: "c", body: request))
            let (header, reader) = try KafkaMessage.header(of: frame.slice(from: 4))
            #expect(header == RequestHeader(apiKey: api.rawValue, apiVersion: version, correlationID: 7, clientID: "c"))
            _ = try KafkaMessage.requestBody(reader, api: schema, version: version)
            let response = KafkaStruct(responseOf: api)
            let answer = joined(KafkaMessage.response(api, version: version, correlationID: -3, body: response))
            #expect(try KafkaMessage.decodeResponse(api, version: version, frame: answer.slice(from: 4)).correlationID == -3)
        }
    }

    /// As librdkafka 2.16 sends it: the count of the null array has four bytes instead of one.
    @Test func bytesBehindARequestAreIgnored() throws {
        let frame = KafkaBytes(
            [0, 3, 0, 12, 0, 0, 0, 3, 0, 7] + Array("rdkafka".utf8) + [0, 0, 0, 0, 0, 1, 0, 0])
        let (_, reader) = try KafkaMessage.header(of: frame)
        let request = try KafkaMessage.requestBody(reader, api: .of(.metadata), version: 12)
        #expect(request.isNull("topics"))
    }
}

/// The pieces of a message in one.
func joined(_ pieces: [KafkaBytes]) -> KafkaBytes { KafkaBytes(pieces.flatMap(\.array)) }
