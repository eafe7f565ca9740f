package import SwiftProtobuf
package import WeirWire

extension RPCConnection {
    /// Sends a request and waits for its reply.
    ///
    /// A cancelled task still waits: the deadline bounds it.
    package func request(_ kind: WireMessageKind, payload: [UInt8], deadline: Duration) async throws(RPCFailure) -> [UInt8] {
        let result: Result<[UInt8], RPCFailure> = await withCheckedContinuation { continuation in
            send(kind, payload: payload, deadline: deadline) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    /// Sends a request and waits for its reply.
    package func request<Reply: Message>(
        _ kind: WireMessageKind, _ message: some Message, deadline: Duration, as reply: Reply.Type = Reply.self
    ) async throws(RPCFailure) -> Reply {
        try Self.parse(try await request(kind, payload: try Self.encode(message), deadline: deadline), kind: kind)
    }

    /// Sends a request; `completion` runs once, on the loop's thread.
    package func send<Reply: Message>(
        _ kind: WireMessageKind, _ message: some Message, deadline: Duration, as reply: Reply.Type = Reply.self,
        completion: @escaping @Sendable (Result<Reply, RPCFailure>) -> Void
    ) {
        let payload: [UInt8]
        do {
            payload = try Self.encode(message)
        } catch {
            let failure = error
            if !loop.run({ completion(.failure(failure)) }) { completion(.failure(failure)) }
            return
        }
        send(kind, payload: payload, deadline: deadline) { result in
            completion(result.flatMap { bytes in Result { () throws(RPCFailure) in try Self.parse(bytes, kind: kind) } })
        }
    }

    package func sendOneWay(_ kind: WireMessageKind, _ message: some Message) {
        // Encoding fails only for invalid UTF-8 or required fields, which proto3 messages made in Swift do not have.
        guard let payload = try? Self.encode(message) else { return close(RPCFailure(.closed, "cannot encode a \(kind) message")) }
        sendOneWay(kind, payload: payload)
    }

    private static func encode(_ message: some Message) throws(RPCFailure) -> [UInt8] {
        do {
            return try message.serializedBytes()
        } catch {
            throw RPCFailure(.protocolViolation, "cannot encode the message: \(error)")
        }
    }

    private static func parse<Reply: Message>(_ bytes: [UInt8], kind: WireMessageKind) throws(RPCFailure) -> Reply {
        do {
            return try Reply(serializedBytes: bytes)
        } catch {
            throw RPCFailure(.protocolViolation, "the reply to \(kind) does not parse: \(error)")
        }
    }
}
