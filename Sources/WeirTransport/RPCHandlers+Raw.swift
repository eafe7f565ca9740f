package import WeirWire

/// Handlers that parse the payload themselves: for a receiver with one entry for all kinds.
extension RPCHandlers {
    package mutating func onRawRequest(
        _ kind: WireMessageKind, from roles: Set<WireRole>? = nil, _ handler: @escaping @Sendable (RPCConnection, [UInt8], RPCResponder) -> Void
    ) {
        entries[UInt16(truncatingIfNeeded: kind.rawValue)] = Entry(roles: roles, isOneWay: false, body: handler)
    }

    package mutating func onRawOneWay(
        _ kind: WireMessageKind, from roles: Set<WireRole>? = nil, _ handler: @escaping @Sendable (RPCConnection, [UInt8]) -> Void
    ) {
        entries[UInt16(truncatingIfNeeded: kind.rawValue)] = Entry(roles: roles, isOneWay: true) { connection, payload, _ in
            handler(connection, payload)
        }
    }
}
