package import WeirWire

/// Why a request has no reply, or a connection ended.
package struct RPCFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Kind: Sendable, Equatable {
        /// The peer answered with an error.
        case refused(WireErrorReply.Code)
        /// No reply in time. The peer may have done what was asked, or may still do it.
        case deadlineExceeded
        /// The connection ended first. The peer may have done what was asked.
        case connectionLost
        /// There was no connection to send on: the peer saw nothing.
        case notConnected
        /// A limit of this side: too many requests or bytes wait for the peer.
        case overloaded
        /// The peer broke the protocol.
        case protocolViolation
        /// This side closed the connection.
        case closed
    }

    package var kind: Kind
    package var message: String
    /// What the person can do about it; may be empty.
    package var hint: String
    /// What the peer sent as a job failure, if it did.
    package var failure: WireFailure?

    package init(_ kind: Kind, _ message: String, hint: String = "", failure: WireFailure? = nil) {
        self.kind = kind
        self.message = message
        self.hint = hint
        self.failure = failure
    }

    package init(reply: WireErrorReply) {
        self.init(
            .refused(reply.code), reply.message, hint: reply.hint, failure: reply.hasFailure ? reply.failure : nil)
    }

    /// Whether trying again against the same peer with the same settings is in vain.
    package var isPermanent: Bool {
        switch kind {
        case .refused(let code):
            switch code {
            case .incompatible, .wrongCluster, .unauthenticated, .notPermitted: true
            default: false
            }
        default: false
        }
    }

    package var description: String {
        hint.isEmpty ? message : "\(message) (\(hint))"
    }
}
