import WeirBase
package import WeirKafkaWire

/// A broker's address.
package struct KafkaAddress: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    package var description: String { host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Reads `bootstrap.servers`: `host:port,[::1]:port,protocol://host:port,host`.
    ///
    /// - Throws: What is wrong with which of them.
    package static func list(_ bootstrap: String) throws(KafkaClientFailure) -> [KafkaAddress] {
        var addresses: [KafkaAddress] = []
        for part in bootstrap.split(separator: ",") {
            var text = part.drop { $0 == " " }
            while text.last == " " { text.removeLast() }
            if let scheme = text.firstRange(of: "://") { text = text[scheme.upperBound...] }
            guard !text.isEmpty else { continue }
            var host = text
            var port: UInt16? = 9_092
            let colons = text.filter { $0 == ":" }.count
            if let colon = text.lastIndex(of: ":"), colons == 1 || text[..<colon].last == "]" {
                host = text[..<colon]
                port = UInt16(text[text.index(after: colon)...])
            }
            if host.first == "[", host.last == "]" { host = host.dropFirst().dropLast() }
            guard let port, !host.isEmpty else { throw KafkaClientFailure("\"\(part)\" of bootstrap.servers is no host:port") }
            addresses.append(KafkaAddress(host: String(host), port: port))
        }
        guard !addresses.isEmpty else { throw KafkaClientFailure("bootstrap.servers is empty") }
        return addresses
    }
}

/// A connection to one broker: one request at a time.
///
/// Used by one thread. After any failure it is closed: what was under way is unknown.
package final class KafkaConnection {
    /// No answer that is asked for here comes near it; a damaged length must not make us wait for gigabytes.
    package static let responseBytesMax = 16 << 20
    private static let clientID = "weir"

    private let stream: any KafkaByteStream
    private let address: KafkaAddress
    private var correlation: Int32 = 0
    private var versions: [ApiKey: ClosedRange<Int16>] = [:]

    /// Connects and asks what the broker speaks.
    package init(_ address: KafkaAddress, _ patience: KafkaPatience) throws(KafkaClientFailure) {
        self.address = address
        stream = try PlainByteStream(host: address.host, port: address.port, patience)
        do throws(KafkaClientFailure) {
            let reply = try exchange(.apiVersions, version: 0, KafkaStruct(requestOf: .apiVersions), patience)
            guard reply.errorCode() == .none else { throw KafkaClientFailure("\(address) refuses ApiVersions: \(reply.errorCode())") }
            for entry in reply.structures("apiKeys") {
                guard let api = ApiKey(rawValue: entry.int16("apiKey")), entry.int16("minVersion") <= entry.int16("maxVersion") else { continue }
                versions[api] = entry.int16("minVersion")...entry.int16("maxVersion")
            }
        } catch {
            stream.close()
            throw error
        }
    }

    deinit { stream.close() }

    package func close() { stream.close() }

    /// Whether the broker knows the request at all.
    package func speaks(_ api: ApiKey) -> Bool { versions[api] != nil }

    /// Sends a request in the highest version that both sides speak, up to `atMost`, and waits for its answer.
    package func send(_ api: ApiKey, atMost: Int16, _ body: KafkaStruct, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaStruct {
        let own = ApiSchema.of(api).versions
        guard let theirs = versions[api] else { throw KafkaClientFailure("\(address) does not know \(api.name)") }
        let version = min(atMost, own.highest, theirs.upperBound)
        guard version >= own.lowest, version >= theirs.lowerBound else {
            throw KafkaClientFailure("\(address) speaks versions \(theirs) of \(api.name), and Weir up to \(min(atMost, own.highest))")
        }
        return try exchange(api, version: version, body, patience)
    }

    private func exchange(_ api: ApiKey, version: Int16, _ body: KafkaStruct, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaStruct {
        correlation &+= 1
        try stream.write(
            KafkaMessage.request(api, version: version, correlationID: correlation, clientID: Self.clientID, body: body), patience)
        let prefix = try stream.read(4, patience)
        let length = prefix.withUnsafeBytes { Int(Int32(bigEndian: $0.loadUnaligned(as: Int32.self))) }
        guard (4...Self.responseBytesMax).contains(length) else {
            throw KafkaClientFailure("\(address) answers \(api.name) with a length of \(length): is it a Kafka broker without encryption?")
        }
        let frame = try stream.read(length, patience)
        do {
            let (found, reply) = try KafkaMessage.decodeResponse(api, version: version, frame: frame)
            guard found == correlation else { throw KafkaClientFailure("\(address) answers another request than \(api.name)") }
            return reply
        } catch let failure as KafkaClientFailure {
            throw failure
        } catch {
            throw KafkaClientFailure("\(address) answers \(api.name) with what cannot be read: \(error)")
        }
    }
}
