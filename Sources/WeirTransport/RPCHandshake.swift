package import WeirWire

/// The rules of the handshake: values in, a verdict out.
package enum RPCHandshake {
    /// The server's verdict on a client's first message.
    package static func judge(
        _ handshake: WireHandshake, identity: RPCIdentity, acceptedRoles: Set<WireRole>,
        versions: ClosedRange<UInt32> = RPCIdentity.versions
    ) -> Result<UInt32, RPCFailure> {
        guard handshake.magic == RPCIdentity.magic else {
            return .failure(RPCFailure(.protocolViolation, "the handshake's magic number is wrong"))
        }
        guard handshake.versionMin <= handshake.versionMax, handshake.versionMax >= versions.lowerBound,
            handshake.versionMin <= versions.upperBound
        else {
            return .failure(
                RPCFailure(
                    .refused(.incompatible),
                    "no common protocol version: the peer speaks \(handshake.versionMin) to \(handshake.versionMax), "
                        + "this side \(versions.lowerBound) to \(versions.upperBound)",
                    hint: "run the same release of Weir on both sides"))
        }
        guard handshake.clusterID.isEmpty || identity.clusterID.isEmpty || handshake.clusterID == identity.clusterID else {
            return .failure(
                RPCFailure(
                    .refused(.wrongCluster), "this is cluster \(identity.clusterID), not \(handshake.clusterID)",
                    hint: "check the JobManager's address and cluster.id"))
        }
        guard equalInConstantTime(Array(handshake.authToken.utf8), Array(identity.authToken.utf8)) else {
            return .failure(
                RPCFailure(
                    .refused(.unauthenticated), handshake.authToken.isEmpty ? "a token is required" : "the token is wrong",
                    hint: "set the cluster's token on this side too"))
        }
        guard acceptedRoles.contains(handshake.role) else {
            return .failure(RPCFailure(.refused(.notPermitted), "the role \(handshake.role) is not served here"))
        }
        return .success(min(handshake.versionMax, versions.upperBound))
    }

    /// The client's verdict on the reply.
    package static func check(
        _ reply: WireHandshakeReply, identity: RPCIdentity, versions: ClosedRange<UInt32> = RPCIdentity.versions
    ) -> RPCFailure? {
        guard reply.magic == RPCIdentity.magic else {
            return RPCFailure(.protocolViolation, "the handshake reply's magic number is wrong")
        }
        guard versions.contains(reply.version) else {
            return RPCFailure(.refused(.incompatible), "the peer chose protocol version \(reply.version), which was not offered")
        }
        guard identity.clusterID.isEmpty || reply.clusterID == identity.clusterID else {
            return RPCFailure(.refused(.wrongCluster), "the peer is of cluster \(reply.clusterID), not \(identity.clusterID)")
        }
        return nil
    }

    static func message(_ identity: RPCIdentity) -> WireHandshake {
        var handshake = WireHandshake()
        handshake.magic = RPCIdentity.magic
        handshake.versionMin = RPCIdentity.versions.lowerBound
        handshake.versionMax = RPCIdentity.versions.upperBound
        handshake.role = identity.role
        handshake.clusterID = identity.clusterID
        handshake.authToken = identity.authToken
        handshake.clientID = identity.clientID
        handshake.software = identity.software
        return handshake
    }

    static func reply(_ identity: RPCIdentity, version: UInt32, limits: RPCLimits) -> WireHandshakeReply {
        var reply = WireHandshakeReply()
        reply.magic = RPCIdentity.magic
        reply.version = version
        reply.role = identity.role
        reply.clusterID = identity.clusterID
        reply.payloadBytesMax = UInt64(limits.payloadBytesMax)
        reply.software = identity.software
        return reply
    }

    /// Takes as long for a token that is wrong in its first byte as for one wrong in its last.
    private static func equalInConstantTime(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        guard a.count == b.count else { return false }
        var difference: UInt8 = 0
        for (x, y) in zip(a, b) { difference |= x ^ y }
        return difference == 0
    }
}
