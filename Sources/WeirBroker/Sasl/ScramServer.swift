import WeirDigest

/// Why a SCRAM exchange ends.
struct ScramFailure: Error, Equatable {
    var message: String
    static let invalidCredentials = ScramFailure(message: "invalid credentials")
}

/// What a server keeps of a password (RFC 5802, section 3): from it nobody can log in elsewhere.
struct ScramKeys: Sendable {
    static let iterations = 4_096
    let salt: [UInt8]
    let storedKey: [UInt8]
    let serverKey: [UInt8]

    init?(password: String, salt: [UInt8], _ algorithm: DigestAlgorithm) {
        guard let salted = algorithm.deriveKey(password: Array(password.utf8), salt: salt, iterations: Self.iterations),
            let clientKey = algorithm.authenticationCode(of: Array("Client Key".utf8), key: salted),
            let storedKey = algorithm.hash(clientKey),
            let serverKey = algorithm.authenticationCode(of: Array("Server Key".utf8), key: salted)
        else { return nil }
        self.salt = salt
        self.storedKey = storedKey
        self.serverKey = serverKey
    }
}

/// The server's side of one SCRAM exchange (RFC 5802, RFC 7677), without channel binding.
///
///     client  n,,n=<user>,r=<nonce>
///     server  r=<nonce><more nonce>,s=<salt>,i=<iterations>
///     client  c=biws,r=<whole nonce>,p=<proof>
///     server  v=<signature>
struct ScramServer {
    let algorithm: DigestAlgorithm
    private var keys: ScramKeys?
    private var nonce = ""
    private var gs2Header = ""
    /// The first two messages, as the proof covers them.
    private var exchanged = ""

    init(algorithm: DigestAlgorithm) { self.algorithm = algorithm }

    /// Takes the client's first message and gives the server's.
    mutating func first(
        _ token: [UInt8], nonce serverNonce: String, keys lookup: (String, DigestAlgorithm) -> ScramKeys?
    ) throws(ScramFailure) -> [UInt8] {
        guard let message = String(validating: token, as: UTF8.self) else { throw ScramFailure(message: "a SCRAM message is UTF-8") }
        let parts = message.split(separator: ",", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw ScramFailure(message: "the first SCRAM message begins with n,,") }
        guard parts[0] == "n" || parts[0] == "y" else { throw ScramFailure(message: "channel binding is not supported") }
        gs2Header = "\(parts[0]),\(parts[1]),"
        let attributes = parts[2].split(separator: ",", omittingEmptySubsequences: false)
        guard attributes.count >= 2, attributes[0].hasPrefix("n="), attributes[1].hasPrefix("r="), attributes[1].utf8.count > 2 else {
            throw ScramFailure(message: "the first SCRAM message has a name and a nonce")
        }
        guard let name = Self.decodeName(attributes[0].dropFirst(2)) else { throw ScramFailure(message: "the name is not encoded as SCRAM wants") }
        guard let keys = lookup(name, algorithm) else { throw .invalidCredentials }
        self.keys = keys
        nonce = attributes[1].dropFirst(2) + serverNonce
        let reply = "r=\(nonce),s=\(Base64.encode(keys.salt)),i=\(ScramKeys.iterations)"
        exchanged = "\(parts[2]),\(reply)"
        return Array(reply.utf8)
    }

    /// Takes the client's proof and gives the server's signature.
    func final(_ token: [UInt8]) throws(ScramFailure) -> [UInt8] {
        guard let keys, let message = String(validating: token, as: UTF8.self), let proofStart = message.range(ofLast: ",p=") else {
            throw ScramFailure(message: "the last SCRAM message has a proof")
        }
        let withoutProof = message[..<proofStart.lowerBound]
        let attributes = withoutProof.split(separator: ",", omittingEmptySubsequences: false)
        guard attributes.count >= 2, attributes[0] == "c=\(Base64.encode(Array(gs2Header.utf8)))", attributes[1] == "r=\(nonce)" else {
            throw ScramFailure(message: "the last SCRAM message does not belong to the first")
        }
        let covered = Array("\(exchanged),\(withoutProof)".utf8)
        guard let proof = Base64.decode(message[proofStart.upperBound...]), proof.count == algorithm.byteCount,
            let signature = algorithm.authenticationCode(of: covered, key: keys.storedKey),
            let stored = algorithm.hash(zip(proof, signature).map { $0 ^ $1 }), equalInConstantTime(stored, keys.storedKey),
            let answer = algorithm.authenticationCode(of: covered, key: keys.serverKey)
        else { throw .invalidCredentials }
        return Array("v=\(Base64.encode(answer))".utf8)
    }

    /// "=2C" stands for a comma and "=3D" for "="; nil for any other "=".
    private static func decodeName(_ text: Substring) -> String? {
        var name = ""
        var rest = text
        while let character = rest.popFirst() {
            guard character == "=" else {
                name.append(character)
                continue
            }
            switch rest.prefix(2) {
            case "2C": name.append(",")
            case "3D": name.append("=")
            default: return nil
            }
            rest = rest.dropFirst(2)
        }
        return name
    }
}

extension String {
    /// Where a text stands last.
    fileprivate func range(ofLast text: String) -> Range<String.Index>? {
        var end = endIndex
        while true {
            if self[..<end].hasSuffix(text) { return index(end, offsetBy: -text.count)..<end }
            guard end > startIndex else { return nil }
            end = index(before: end)
        }
    }
}
