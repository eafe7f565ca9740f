internal import SwiftProtobuf
internal import WeirBase
package import WeirWire

/// The other end of one connection, as the JobManager uses it. Called on the JobManager's loop only.
package protocol Peer: AnyObject, Sendable {
    /// For messages to people: role, name and address.
    var label: String { get }
    /// Sends a message that has no answer; one to a closed connection is dropped, its loss is reported by the connection itself.
    func send(_ kind: WireMessageKind, _ payload: [UInt8])
    /// Sends a request. A failed one is logged: what it means for the job follows from events, not from the answer.
    func request(_ kind: WireMessageKind, _ payload: [UInt8], completion: @escaping @Sendable (Result<[UInt8], RequestFailure>) -> Void)
    func close(reason: String)
}

/// Why a request has no answer.
package struct RequestFailure: Error, Sendable {
    package var message: String
    package init(message: String) { self.message = message }
}

/// Answers one request.
package final class Responder: Sendable {
    private let body: @Sendable (Result<[UInt8], Refusal>) -> Void
    package init(_ body: @escaping @Sendable (Result<[UInt8], Refusal>) -> Void) { self.body = body }

    func reply(_ message: some SwiftProtobuf.Message) {
        do {
            let bytes: [UInt8] = try message.serializedBytes()
            body(.success(bytes))
        } catch {
            body(.failure(Refusal(.internal, "the answer could not be encoded: \(error)")))
        }
    }

    func refuse(_ refusal: Refusal) { body(.failure(refusal)) }
}

/// A request that was understood and is not done: becomes an ErrorReply.
package struct Refusal: Error, Sendable {
    package var code: WireErrorReply.Code
    package var message: String
    package var hint: String
    package init(_ code: WireErrorReply.Code, _ message: String, hint: String = "") {
        self.code = code
        self.message = message
        self.hint = hint
    }

    /// What failed and why, in one sentence.
    init(_ code: WireErrorReply.Code, _ failure: JobFailure, hint: String = "") {
        self.init(code, failure.message + (failure.cause.map { ": " + $0 } ?? ""), hint: hint)
    }
}
