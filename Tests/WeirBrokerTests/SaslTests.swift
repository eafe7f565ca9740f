import Testing
import WeirBase
import WeirDigest
import WeirKafkaWire

@testable import WeirBroker

@Suite struct SaslTests {
    private func broker() throws -> TestBroker {
        try TestBroker { $0.properties["sasl.users"] = "alice:wonder,b=o:x:y" }
    }

    private func handshake(_ client: WireClient, _ mechanism: String) throws -> KafkaErrorCode {
        try client.call(.saslHandshake) { $0["mechanism"] = .string(mechanism) }.errorCode()
    }

    private func authenticate(_ client: WireClient, _ token: String) throws -> (code: KafkaErrorCode, token: String) {
        let answer = try client.call(.saslAuthenticate) { $0["authBytes"] = .bytes(KafkaBytes(Array(token.utf8))) }
        return (answer.errorCode(), String(decoding: answer.bytes("authBytes").array, as: UTF8.self))
    }

    // MARK: PLAIN

    @Test(arguments: ["\0alice\0wonder", "alice\0alice\0wonder", "\0b=o\0x:y"]) func plainWithTheRightPasswordOpensTheConnection(token: String) throws
    {
        let test = try broker()
        let client = test.client
        #expect(try client.call(.apiVersions).errorCode() == .none, "it may be asked before")
        #expect(try handshake(client, "PLAIN") == .none)
        #expect(try authenticate(client, token).code == .none)
        #expect(try client.call(.metadata).structures("brokers").count == 1)
    }

    @Test(arguments: ["\0alice\0wrong", "\0carol\0wonder", "\0alice\0", "alice", "\0alice\0wonder\0"])
    func plainWithAnythingElseClosesIt(token: String) throws {
        let test = try broker()
        let client = test.client
        _ = try handshake(client, "PLAIN")
        #expect(try authenticate(client, token).code == .saslAuthenticationFailed)
        #expect(throws: WireClient.Failure.self) { try client.call(.apiVersions) }
    }

    @Test func requestsBeforeAuthenticationCloseTheConnection() throws {
        let test = try broker()
        let client = test.client
        #expect(throws: WireClient.Failure.self) { try client.call(.metadata) }
    }

    @Test func tokensWithoutHeadersFollowTheFirstVersionOfTheHandshake() throws {
        let test = try broker()
        let client = test.client
        _ = try client.call(.saslHandshake, version: 0) { $0["mechanism"] = "PLAIN" }
        let token = Array("\0alice\0wonder".utf8)
        try client.send([0, 0, 0, UInt8(token.count)] + token)
        #expect(try client.receiveFrame().isEmpty)
        #expect(try client.call(.metadata).structures("brokers").count == 1)
    }

    @Test func unknownMechanismsAreRefusedWithTheKnownOnes() throws {
        let test = try broker()
        let client = test.client
        let answer = try client.call(.saslHandshake) { $0["mechanism"] = "GSSAPI" }
        #expect(answer.errorCode() == .unsupportedSASLMechanism)
        #expect(answer.strings("mechanisms") == ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
        let limited = try TestBroker { $0.properties = ["sasl.users": "a:b", "sasl.enabled.mechanisms": "SCRAM-SHA-512"] }
        #expect(try handshake(limited.client, "PLAIN") == .unsupportedSASLMechanism)
    }

    @Test func aBrokerWithoutUsersAsksForNothing() throws {
        let test = try TestBroker()
        let client = test.client
        #expect(try handshake(client, "PLAIN") == .illegalSASLState)
        #expect(try authenticate(client, "").code == .illegalSASLState)
        #expect(try client.call(.metadata).structures("brokers").count == 1)
    }

    @Test(arguments: ["alice", ":x", "alice:"]) func usersThatAreNoneAreAnError(users: String) {
        #expect(throws: BrokerFailure.self) { try TestBroker { $0.properties["sasl.users"] = users } }
    }

    // MARK: SCRAM

    private func scram(_ client: WireClient, _ algorithm: DigestAlgorithm, user: String, password: String) throws -> KafkaErrorCode {
        #expect(try handshake(client, algorithm == .sha256 ? "SCRAM-SHA-256" : "SCRAM-SHA-512") == .none)
        let bare = "n=\(user),r=abc"
        let (code, first) = try authenticate(client, "n,,\(bare)")
        guard code == .none else { return code }
        let attributes = first.split(separator: ",").map { String($0.dropFirst(2)) }
        let salt = try #require(Base64.decode(attributes[1]))
        let iterations = try #require(Int(attributes[2]))
        let salted = try #require(algorithm.deriveKey(password: Array(password.utf8), salt: salt, iterations: iterations))
        let clientKey = try #require(algorithm.authenticationCode(of: Array("Client Key".utf8), key: salted))
        let storedKey = try #require(algorithm.hash(clientKey))
        let withoutProof = "c=biws,r=\(attributes[0])"
        let covered = Array("\(bare),\(first),\(withoutProof)".utf8)
        let signature = try #require(algorithm.authenticationCode(of: covered, key: storedKey))
        let (final, answer) = try authenticate(client, "\(withoutProof),p=\(Base64.encode(zip(clientKey, signature).map { $0 ^ $1 }))")
        guard final == .none else { return final }
        let serverKey = try #require(algorithm.authenticationCode(of: Array("Server Key".utf8), key: salted))
        let serverSignature = try #require(algorithm.authenticationCode(of: covered, key: serverKey))
        #expect(answer == "v=\(Base64.encode(serverSignature))")
        return final
    }

    @Test(arguments: [DigestAlgorithm.sha256, .sha512]) func scramProvesBothSides(algorithm: DigestAlgorithm) throws {
        let test = try broker()
        #expect(try scram(test.client, algorithm, user: "alice", password: "wonder") == .none)
        #expect(try test.client.call(.metadata).structures("brokers").count == 1)
        #expect(try scram(try test.connect(), algorithm, user: "b=3Do", password: "x:y") == .none)
        #expect(try scram(try test.connect(), algorithm, user: "alice", password: "Wonder") == .saslAuthenticationFailed)
        #expect(try scram(try test.connect(), algorithm, user: "carol", password: "wonder") == .saslAuthenticationFailed)
        #expect(try scram(try test.connect(), algorithm, user: "b=o", password: "x:y") == .saslAuthenticationFailed)
    }

    /// RFC 7677, section 3.
    @Test func theExampleOfTheStandard() throws {
        let salt = try #require(Base64.decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
        let keys = ScramKeys(password: "pencil", salt: salt, .sha256)
        var server = ScramServer(algorithm: .sha256)
        let first = try server.first(Array("n,,n=user,r=rOprNGfwEbeRWgbNEkqO".utf8), nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0") { name, _ in
            name == "user" ? keys : nil
        }
        #expect(
            String(decoding: first, as: UTF8.self)
                == "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
        let final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        #expect(String(decoding: try server.final(Array(final.utf8)), as: UTF8.self) == "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    }

    @Test(arguments: ["", "n", "n,,", "p=tls,,n=alice,r=x", "n,,n=alice", "n,,n=alice,r=", "n,,n=al=ice,r=x", "n,,m=e,n=alice,r=x"])
    func malformedScramMessagesAreRefused(message: String) throws {
        let test = try broker()
        let client = test.client
        _ = try handshake(client, "SCRAM-SHA-256")
        #expect(try authenticate(client, message).code == .saslAuthenticationFailed)
    }

    @Test func base64SurvivesARoundTrip() {
        for count in 0..<20 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 37) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
        }
        #expect(Base64.encode(Array("foobar".utf8)) == "Zm9vYmFy")
        #expect(Base64.decode("Zg==") == [0x66])
        for text in ["Zg=", "Z===", "Zm9%", "Zg==Zg=="] { #expect(Base64.decode(text) == nil) }
    }
}
