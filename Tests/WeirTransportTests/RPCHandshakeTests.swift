import SwiftProtobuf
import Testing
import WeirBase
import WeirWire

@testable import WeirTransport

@Suite struct RPCHandshakeTests {
    private func refusal(of client: RPCClient) async -> RPCFailure? {
        do throws(RPCFailure) {
            _ = try await client.connected()
            return nil
        } catch {
            return error
        }
    }

    @Test func anotherClusterIsRefused() async throws {
        let server = try TestServer()
        let failure = await refusal(of: server.client { $0.identity.clusterID = "c2" })
        #expect(failure?.kind == .refused(.wrongCluster))
        #expect(failure?.message == "this is cluster c1, not c2")
        #expect(server.opened.values.isEmpty)
    }

    @Test func aRoleThatIsNotServedIsRefused() async throws {
        let server = try TestServer { $0.acceptedRoles = [.client] }
        #expect(await refusal(of: server.client(role: .worker))?.kind == .refused(.notPermitted))
        #expect(await refusal(of: server.client(role: .client)) == nil)
    }

    @Test(arguments: ["", "wrong", "secre", "secret2"]) func aMissingOrWrongTokenIsRefused(token: String) async throws {
        let server = try TestServer { $0.identity.authToken = "secret" }
        #expect(await refusal(of: server.client { $0.identity.authToken = token })?.kind == .refused(.unauthenticated))
        #expect(await refusal(of: server.client { $0.identity.authToken = "secret" }) == nil)
    }

    @Test func aPermanentRefusalEndsReconnection() async throws {
        let server = try TestServer()
        let events = Journal<RPCClient.Event>()
        let client = server.client(events: events) {
            $0.identity.clusterID = "c2"
            $0.reconnect = Backoff(initial: .milliseconds(1))
        }
        #expect(await refusal(of: client)?.isPermanent == true)
        #expect(events.values.count == 1)
    }

    @Test func versionsMustOverlap() {
        let identity = RPCIdentity(role: .jobManager)
        func judge(_ low: UInt32, _ high: UInt32, magic: UInt32 = RPCIdentity.magic) -> Result<UInt32, RPCFailure> {
            var handshake = RPCHandshake.message(RPCIdentity(role: .client))
            handshake.magic = magic
            handshake.versionMin = low
            handshake.versionMax = high
            return RPCHandshake.judge(handshake, identity: identity, acceptedRoles: [.client], versions: 2...4)
        }
        func code(_ verdict: Result<UInt32, RPCFailure>) -> RPCFailure.Kind? {
            if case .failure(let failure) = verdict { failure.kind } else { nil }
        }
        #expect(judge(1, 3) == .success(3))
        #expect(judge(2, 9) == .success(4))
        #expect(code(judge(0, 1)) == .refused(.incompatible))
        #expect(code(judge(5, 9)) == .refused(.incompatible))
        #expect(code(judge(4, 2)) == .refused(.incompatible))
        #expect(code(judge(2, 4, magic: 7)) == .protocolViolation)
    }

    @Test func connectionsBeyondTheLimitAreToldSo() async throws {
        let server = try TestServer { $0.connectionsMax = 2 }
        let kept = [server.client(), server.client()]
        for client in kept { _ = try await client.connected() }
        #expect(await refusal(of: server.client())?.kind == .refused(.overloaded))
        kept[0].close()
        #expect(await eventually { server.closed.values.count == 1 })
        #expect(await refusal(of: server.client()) == nil)
    }

    @Test func aPeerThatSaysNothingIsCutOff() async throws {
        let server = try TestServer { $0.limits.handshakeTimeout = .milliseconds(50) }
        #expect(try RawSocket(port: server.server.port).readToEnd() == [])
    }

    @Test func anOversizedFirstFrameIsRefusedByItsHeader() async throws {
        let server = try TestServer()
        let raw = try RawSocket(port: server.server.port)
        raw.write(Array(Frame(type: .request, kind: 1, correlation: 0, payload: [UInt8](repeating: 0, count: 20_000)).encoded()[..<16]))
        #expect(raw.readToEnd() == [])
        #expect(await eventually { server.log.values.count == 1 })
        #expect(server.log.values[0].contains("payload of 20000 bytes, the limit is 16384"))
    }

    @Test func aRequestBeforeTheHandshakeClosesTheConnection() async throws {
        let server = try TestServer()
        let raw = try RawSocket(port: server.server.port)
        raw.write(Frame(type: .request, kind: 83, correlation: 0, payload: []).encoded())
        #expect(raw.readToEnd() == [])
    }

    @Test(arguments: 0..<60 as Range<UInt64>) func garbageClosesTheConnectionWithOneLogLine(seed: UInt64) async throws {
        var random = SplitMix64(seed: seed)
        let server = try TestServer { $0.limits.handshakeTimeout = .milliseconds(200) }
        let raw = try RawSocket(port: server.server.port)
        let payload: [UInt8] = try RPCHandshake.message(RPCIdentity(role: .client)).serializedBytes()
        var bytes = Frame(type: .request, kind: 1, correlation: 0, payload: payload).encoded()
        if seed.isMultiple(of: 3) {
            bytes = (0..<200).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        } else {
            // A handshake with one damaged byte, then garbage in the place of the next frame.
            bytes[Int.random(in: bytes.indices, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
            bytes += (0..<64).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        }
        raw.write(bytes)
        // A length that promises more than came is only noticed as silence; let it end by closing this side.
        shutdownWrites(raw)
        #expect(raw.readToEnd() != nil)
        #expect(await eventually { server.log.values.count <= 2 })
        // The server still serves.
        #expect(await refusal(of: server.client()) == nil)
    }
}
