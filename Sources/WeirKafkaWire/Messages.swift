package import WeirBase

/// What stands before a request's body: who asks for what, and under which number the answer is expected.
package struct RequestHeader: Sendable, Equatable {
    package var apiKey: Int16
    package var apiVersion: Int16
    package var correlationID: Int32
    package var clientID: String?

    package init(apiKey: Int16, apiVersion: Int16, correlationID: Int32, clientID: String?) {
        self.apiKey = apiKey
        self.apiVersion = apiVersion
        self.correlationID = correlationID
        self.clientID = clientID
    }
}

/// Whole messages: the header and the body, without or with the four bytes of length before them.
///
///     request   | length: i32 | API key: i16 | version: i16 | correlation: i32 | client id: nullable string | [tagged fields] | body |
///     response  | length: i32 | correlation: i32 | [tagged fields] | body |
///
/// The tagged fields are there in flexible versions, except in the response to ApiVersions, which a client must be able to read before
/// it knows what the broker speaks (KIP-511).
package enum KafkaMessage {
    /// Reads the part of a request's header that every version has, so that an unknown API can be named.
    ///
    /// - Parameter frame: What stands behind the length.
    package static func header(of frame: KafkaBytes) throws(DecodingFailure) -> (header: RequestHeader, reader: MessageReader) {
        var reader = MessageReader(frame)
        let key: Int16 = try reader.integer()
        let version: Int16 = try reader.integer()
        let correlation: Int32 = try reader.integer()
        let client = try reader.string(compact: false)
        return (RequestHeader(apiKey: key, apiVersion: version, correlationID: correlation, clientID: client), reader)
    }

    /// Reads a request's body behind ``header(of:)``. The version must be one that the schema has.
    package static func requestBody(_ reader: MessageReader, api: ApiSchema, version: Int16) throws(DecodingFailure) -> KafkaStruct {
        precondition(api.versions.contains(version), "a version that the schema does not have")
        var reader = reader
        let flexible = api.isFlexible(version)
        if flexible { try reader.skipTaggedFields() }
        // Bytes behind the body are ignored, as Kafka does: librdkafka 2.16 leaves three of them behind a Metadata request for all topics.
        return try api.request.decode(&reader, version: version, flexible: flexible)
    }

    /// A request, with its length before it, in pieces to be sent one after the other.
    package static func request(
        _ api: ApiKey, version: Int16, correlationID: Int32, clientID: String?, body: KafkaStruct
    ) -> [KafkaBytes] {
        let schema = ApiSchema.of(api)
        precondition(schema.versions.contains(version), "a version that the schema does not have")
        let flexible = schema.isFlexible(version)
        return frame { writer in
            writer.integer(api.rawValue)
            writer.integer(version)
            writer.integer(correlationID)
            writer.string(clientID, compact: false)
            if flexible { writer.unsignedVarint(0) }
            schema.request.encode(body, to: &writer, version: version, flexible: flexible)
        }
    }

    /// A response, with its length before it, in pieces to be sent one after the other.
    package static func response(_ api: ApiKey, version: Int16, correlationID: Int32, body: KafkaStruct) -> [KafkaBytes] {
        let schema = ApiSchema.of(api)
        let flexible = schema.isFlexible(version)
        return frame { writer in
            writer.integer(correlationID)
            if flexible && api != .apiVersions { writer.unsignedVarint(0) }
            schema.response.encode(body, to: &writer, version: version, flexible: flexible)
        }
    }

    /// Reads a response: its correlation id and body.
    ///
    /// - Parameter frame: What stands behind the length.
    package static func decodeResponse(
        _ api: ApiKey, version: Int16, frame: KafkaBytes
    ) throws(DecodingFailure) -> (correlationID: Int32, body: KafkaStruct) {
        let schema = ApiSchema.of(api)
        let flexible = schema.isFlexible(version)
        var reader = MessageReader(frame)
        let correlation: Int32 = try reader.integer()
        if flexible && api != .apiVersions { try reader.skipTaggedFields() }
        let body = try schema.response.decode(&reader, version: version, flexible: flexible)
        try reader.expectEnd()
        return (correlation, body)
    }

    private static func frame(_ write: (inout MessageWriter) -> Void) -> [KafkaBytes] {
        var writer = MessageWriter()
        writer.integer(Int32(0))
        write(&writer)
        let length = writer.count - 4
        let pieces = writer.finish()
        pieces[0].store(Int32(length), at: 0)
        return pieces
    }
}
