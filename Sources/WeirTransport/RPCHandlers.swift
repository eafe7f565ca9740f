import Synchronization
package import SwiftProtobuf
package import WeirWire

/// What to do with each kind of message that comes in. Both sides of a connection have one.
///
/// Handlers run on the loop's thread, in the order in which the peer sent, and must not block. A kind without a handler is answered
/// with an error.
package struct RPCHandlers: Sendable {
    struct Entry: Sendable {
        /// Nil: any role.
        var roles: Set<WireRole>?
        var isOneWay: Bool
        var body: @Sendable (RPCConnection, [UInt8], RPCResponder) -> Void
    }

    var entries: [UInt16: Entry] = [:]

    package init() {}

    /// Answers requests of a kind. The handler, or whoever it hands the reply to, answers once.
    package mutating func onRequest<Request: Message, Reply: Message>(
        _ kind: WireMessageKind, from roles: Set<WireRole>? = nil,
        _ handler: @escaping @Sendable (RPCConnection, Request, RPCReply<Reply>) -> Void
    ) {
        entries[UInt16(truncatingIfNeeded: kind.rawValue)] = Entry(roles: roles, isOneWay: false) { connection, payload, responder in
            guard let request = try? Request(serializedBytes: payload) else {
                return responder.fail(.malformed, "cannot parse the \(kind) request")
            }
            handler(connection, request, RPCReply(responder: responder))
        }
    }

    /// Answers requests of a kind from an async function, each in a task of its own: their order is not kept.
    package mutating func onRequest<Request: Message, Reply: Message>(
        _ kind: WireMessageKind, from roles: Set<WireRole>? = nil,
        async handler: @escaping @Sendable (RPCConnection, Request) async throws -> Reply
    ) {
        onRequest(kind, from: roles) { (connection: RPCConnection, request: Request, reply: RPCReply<Reply>) in
            Task {
                do {
                    reply.send(try await handler(connection, request))
                } catch let failure as RPCFailure {
                    reply.fail(failure)
                } catch {
                    reply.fail(.internal, "\(error)")
                }
            }
        }
    }

    /// Takes one-ways of a kind. One that does not parse closes the connection: nobody waits for an answer that could say so.
    package mutating func onOneWay<Body: Message>(
        _ kind: WireMessageKind, from roles: Set<WireRole>? = nil, _ handler: @escaping @Sendable (RPCConnection, Body) -> Void
    ) {
        entries[UInt16(truncatingIfNeeded: kind.rawValue)] = Entry(roles: roles, isOneWay: true) { connection, payload, _ in
            guard let body = try? Body(serializedBytes: payload) else {
                return connection.close(RPCFailure(.protocolViolation, "cannot parse the \(kind) message"))
            }
            handler(connection, body)
        }
    }
}

/// The one answer to a request; it may be given from any thread. Letting go of it without an answer answers with an error.
package final class RPCResponder: Sendable {
    private let send: @Sendable (FrameType, [UInt8]) -> Void
    private let answered = Atomic<Bool>(false)

    init(send: @escaping @Sendable (FrameType, [UInt8]) -> Void) {
        self.send = send
    }

    deinit {
        fail(.internal, "the request's handler gave no answer")
    }

    /// Only the first answer counts.
    package func reply(payload: [UInt8]) {
        answer(.response, payload)
    }

    package func fail(_ code: WireErrorReply.Code, _ message: String, hint: String = "", failure: WireFailure? = nil) {
        var reply = WireErrorReply()
        reply.code = code
        reply.message = message
        reply.hint = hint
        if let failure { reply.failure = failure }
        answer(.errorResponse, (try? reply.serializedBytes()) ?? [])
    }

    private func answer(_ type: FrameType, _ payload: [UInt8]) {
        guard !answered.exchange(true, ordering: .relaxed) else { return }
        send(type, payload)
    }
}

/// An ``RPCResponder`` for replies of one type.
package struct RPCReply<Reply: Message>: Sendable {
    private let responder: RPCResponder

    init(responder: RPCResponder) {
        self.responder = responder
    }

    package func send(_ reply: Reply) {
        guard let payload: [UInt8] = try? reply.serializedBytes() else { return fail(.internal, "cannot encode the reply") }
        responder.reply(payload: payload)
    }

    package func fail(_ code: WireErrorReply.Code, _ message: String, hint: String = "", failure: WireFailure? = nil) {
        responder.fail(code, message, hint: hint, failure: failure)
    }

    package func fail(_ failure: RPCFailure) {
        var code = WireErrorReply.Code.internal
        if case .refused(let refusal) = failure.kind { code = refusal }
        responder.fail(code, failure.message, hint: failure.hint, failure: failure.failure)
    }
}
