import WeirKafkaWire

/// The users that may connect, by the property `sasl.users`.
struct Credentials: Sendable {
    let passwords: [String: String]
}

/// Where a connection stands in its authentication.
final class SaslSession {
    enum Step {
        case challenge([UInt8])
        case success([UInt8])
        case failure(String)
    }

    private let credentials: Credentials
    private(set) var isAuthenticated = false
    private(set) var takesRawTokens = false

    init(credentials: Credentials) { self.credentials = credentials }

    /// Whether an API may be asked for before authentication.
    static func mayPrecede(_ api: ApiKey) -> Bool { api == .apiVersions || api == .saslHandshake || api == .saslAuthenticate }

    func step(_ token: [UInt8]) -> Step { .failure("no mechanism was chosen") }
}

extension Broker {
    var credentials: Credentials? { nil }
    func registerSaslHandlers() {}
}
