package import WeirWire

/// The bounds of a connection's memory and patience. Every one is enforced on both sides.
package struct RPCLimits: Sendable, Equatable {
    /// The largest payload that is read; a longer frame closes the connection.
    package var payloadBytesMax = 16 << 20
    /// Bytes that wait to be sent; beyond it the peer does not keep up and the connection is closed.
    package var outboundBytesMax = 64 << 20
    /// Requests of the peer that are not answered yet; further ones are refused as overloaded.
    package var inboundRequestsMax = 1_024
    /// Own requests without a reply; further ones fail at once.
    package var outboundRequestsMax = 16_384
    /// The time from the connection to the end of the handshake.
    package var handshakeTimeout = Duration.seconds(10)
    /// How long the kernel keeps trying a peer that does not acknowledge, see TCP_USER_TIMEOUT.
    package var unreachableTimeout = Duration.seconds(15)

    package init() {}
}

/// Who this side is and whom it talks to.
package struct RPCIdentity: Sendable, Equatable {
    /// "WEIR": the first field of each handshake.
    package static let magic: UInt32 = 0x5745_4952
    /// The protocol versions that this build speaks.
    package static let versions: ClosedRange<UInt32> = 1...1

    package var role: WireRole
    /// Of a client: empty until it learns the server's.
    package var clusterID: String
    /// A shared secret; empty: none is sent, or asked for.
    package var authToken: String
    /// For the peer's logs, e.g. "tm-2".
    package var clientID: String
    package var software: String

    package init(role: WireRole, clusterID: String = "", authToken: String = "", clientID: String = "", software: String = "weir") {
        self.role = role
        self.clusterID = clusterID
        self.authToken = authToken
        self.clientID = clientID
        self.software = software
    }
}

package struct RPCServerOptions: Sendable {
    package var host = "127.0.0.1"
    /// 0: any free one; see ``RPCServer/port``.
    package var port: UInt16 = 0
    package var identity: RPCIdentity
    package var acceptedRoles: Set<WireRole> = [.taskManager, .worker, .client]
    package var connectionsMax = 1_024
    package var limits = RPCLimits()

    package init(identity: RPCIdentity) {
        self.identity = identity
    }
}

package struct RPCClientOptions: Sendable {
    package var host: String
    package var port: UInt16
    package var identity: RPCIdentity
    package var connectTimeout = Duration.seconds(5)
    /// Nil: one connection attempt, and no other after a connection is lost.
    package var reconnect: Backoff? = Backoff()
    package var limits = RPCLimits()
    /// For the jitter of the backoff.
    package var seed: UInt64

    package init(host: String, port: UInt16, identity: RPCIdentity, seed: UInt64) {
        self.host = host
        self.port = port
        self.identity = identity
        self.seed = seed
    }
}

/// The other side of a connection, as its handshake said.
package struct RPCPeer: Sendable, Equatable, CustomStringConvertible {
    package var role: WireRole
    package var clusterID: String
    package var clientID: String
    package var software: String
    /// The protocol version that both sides speak.
    package var version: UInt32
    /// The numeric host and port of its end of the connection.
    package var address: String

    package var description: String { clientID.isEmpty ? address : "\(clientID) (\(address))" }
}
