package import WeirKafkaWire

/// A connection, for as long as the broker runs. Never used again.
package struct ConnectionID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package var description: String { "\(rawValue)" }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A request that waits for its answer: who asked, and where the answer goes. Used on the loop's thread.
///
/// The handler answers exactly once, at once or later (out of a timer, when something it waits for happens); until then the context keeps its place
/// in the connection's order. When the connection is gone, answers go nowhere.
package final class RequestContext {
    package let apiKey: ApiKey
    package let apiVersion: Int16
    package let clientID: String?
    package let connection: ConnectionID
    /// The client's address without the port, as "/127.0.0.1": Kafka writes it so in DescribeGroups.
    package let clientHost: String
    /// Where the client reached the broker: what Metadata and FindCoordinator answer with.
    package let advertised: AdvertisedAddress
    private var answer: ((KafkaStruct?) -> Void)?
    private let isConnected: () -> Bool

    init(
        apiKey: ApiKey, apiVersion: Int16, clientID: String?, connection: ConnectionID, clientHost: String, advertised: AdvertisedAddress,
        isConnected: @escaping () -> Bool, answer: @escaping (KafkaStruct?) -> Void
    ) {
        self.apiKey = apiKey
        self.apiVersion = apiVersion
        self.clientID = clientID
        self.connection = connection
        self.clientHost = clientHost
        self.advertised = advertised
        self.isConnected = isConnected
        self.answer = answer
    }

    /// Whether somebody still waits for the answer.
    package var isOpen: Bool { answer != nil && isConnected() }

    /// Sends the response. Once.
    package func reply(_ body: KafkaStruct) { finish(body) }

    /// Ends a request that wants no response (Produce with acks=0). Once, instead of ``reply(_:)``.
    package func finishWithoutReply() { finish(nil) }

    private func finish(_ body: KafkaStruct?) {
        guard let answer else { preconditionFailure("a request of \(apiKey) was answered twice") }
        self.answer = nil
        answer(body)
    }
}

/// Host and port under which a client reaches the broker.
package struct AdvertisedAddress: Sendable, Equatable {
    package var host: String
    package var port: UInt16
}

/// Answers the requests of an API, on the loop's thread.
package typealias RequestHandler = (_ request: KafkaStruct, _ context: RequestContext) -> Void
