import WeirDigest
import WeirKafkaWire

/// A way of authentication.
enum SaslMechanism: String, Sendable {
    case plain = "PLAIN"
    case scramSHA256 = "SCRAM-SHA-256"
    case scramSHA512 = "SCRAM-SHA-512"
}

/// The users that may connect, by the property `sasl.users`.
final class Credentials {
    let mechanisms: [String]
    private let passwords: [String: String]
    private var keys: [String: ScramKeys] = [:]
    private let random: (Int) -> [UInt8]

    /// - Parameter random: Unpredictable bytes, of the number asked for.
    /// - Throws: ``BrokerFailure`` for what is no list of name:password.
    init(users: String, mechanisms: [String], random: @escaping (Int) -> [UInt8]) throws(BrokerFailure) {
        var passwords: [String: String] = [:]
        for user in splitList(users) {
            let pair = user.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard pair.count == 2, !pair[0].isEmpty, !pair[1].isEmpty else {
                throw BrokerFailure("sasl.users is a list of name:password, separated by commas")
            }
            passwords[String(pair[0])] = String(pair[1])
        }
        self.passwords = passwords
        self.mechanisms = mechanisms
        self.random = random
    }

    func accepts(name: String, password: [UInt8]) -> Bool {
        guard let expected = passwords[name] else { return false }
        return equalInConstantTime(Array(expected.utf8), password)
    }

    /// What the server keeps of a user's password; made once, since it is slow on purpose. Nil for a user who does not exist.
    func scramKeys(of name: String, _ algorithm: DigestAlgorithm) -> ScramKeys? {
        let place = "\(algorithm) \(name)"
        if let present = keys[place] { return present }
        guard let password = passwords[name], let made = ScramKeys(password: password, salt: random(16), algorithm) else { return nil }
        keys[place] = made
        return made
    }

    func nonce() -> String { Base64.encode(random(18)) }
}

/// Where a connection stands in its authentication.
final class SaslSession {
    enum Step {
        case challenge([UInt8])
        /// The client is authenticated.
        case success([UInt8])
        /// It is not: it is told, and the connection closed.
        case failure(String)
    }

    private enum State {
        case new
        case chosen(SaslMechanism)
        case scram(ScramServer)
        case authenticated
        case failed
    }

    private let credentials: Credentials
    private var state = State.new
    /// After SaslHandshake version 0, tokens come without request headers.
    private(set) var takesRawTokens = false

    init(credentials: Credentials) { self.credentials = credentials }

    var isAuthenticated: Bool { if case .authenticated = state { true } else { false } }
    var mechanisms: [String] { credentials.mechanisms }

    /// Whether an API may be asked for before authentication.
    static func mayPrecede(_ api: ApiKey) -> Bool { api == .apiVersions || api == .saslHandshake || api == .saslAuthenticate }

    /// Takes the mechanism that a SaslHandshake names.
    func choose(_ name: String, rawTokens: Bool) -> KafkaErrorCode {
        guard case .new = state else { return .illegalSASLState }
        guard mechanisms.contains(name), let mechanism = SaslMechanism(rawValue: name) else { return .unsupportedSASLMechanism }
        state = .chosen(mechanism)
        takesRawTokens = rawTokens
        return .none
    }

    /// Takes the client's next token.
    func step(_ token: [UInt8]) -> Step {
        let result = advance(token)
        switch result {
        case .challenge: break
        case .success:
            state = .authenticated
            takesRawTokens = false
        case .failure: state = .failed
        }
        return result
    }

    private func advance(_ token: [UInt8]) -> Step {
        switch state {
        case .new, .failed: return .failure("no mechanism was chosen by SaslHandshake")
        case .authenticated: return .failure("the connection is authenticated already")
        case .chosen(.plain): return plain(token)
        case .chosen(let mechanism):
            var server = ScramServer(algorithm: mechanism == .scramSHA256 ? .sha256 : .sha512)
            do throws(ScramFailure) {
                let reply = try server.first(token, nonce: credentials.nonce()) { credentials.scramKeys(of: $0, $1) }
                state = .scram(server)
                return .challenge(reply)
            } catch {
                return .failure(error.message)
            }
        case .scram(let server):
            do throws(ScramFailure) { return .success(try server.final(token)) } catch { return .failure(error.message) }
        }
    }

    /// RFC 4616: `authorization id NUL user NUL password`.
    private func plain(_ token: [UInt8]) -> Step {
        let parts = token.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, let user = String(validating: parts[1], as: UTF8.self) else {
            return .failure("a PLAIN token has three parts")
        }
        guard credentials.accepts(name: user, password: Array(parts[2])) else { return .failure(ScramFailure.invalidCredentials.message) }
        return .success([])
    }
}

extension Broker {
    func registerSaslHandlers() {
        register(.saslHandshake) { [unowned self] request, context in
            var response = KafkaStruct(responseOf: .saslHandshake)
            guard let session = connections?.authentication(of: context.connection) else {
                response["errorCode"] = .code(.illegalSASLState)
                return context.reply(response)
            }
            response["errorCode"] = .code(session.choose(request.string("mechanism"), rawTokens: context.apiVersion == 0))
            response["mechanisms"] = .strings(session.mechanisms)
            context.reply(response)
        }
        register(.saslAuthenticate) { [unowned self] request, context in
            var response = KafkaStruct(responseOf: .saslAuthenticate)
            guard let session = connections?.authentication(of: context.connection) else {
                response["errorCode"] = .code(.illegalSASLState)
                response["errorMessage"] = "this broker asks for no authentication"
                return context.reply(response)
            }
            switch session.step(request.bytes("authBytes").array) {
            case .challenge(let bytes), .success(let bytes): response["authBytes"] = .bytes(KafkaBytes(bytes))
            case .failure(let reason):
                response["errorCode"] = .code(.saslAuthenticationFailed)
                response["errorMessage"] = .string("Authentication failed: \(reason)")
                connections?.closeAfterAnswers(context.connection)
            }
            context.reply(response)
        }
    }
}
