import WeirBase
import WeirKafkaWire

/// The answer to a request of a group.
enum GroupReply: Sendable, Equatable {
    struct Join: Sendable, Equatable {
        struct Member: Sendable, Equatable {
            var id: String
            var instanceID: String?
            var metadata: [UInt8]
        }
        var error = KafkaErrorCode.none
        var memberID: String
        var generation: Int32 = -1
        var protocolType: String?
        var protocolName: String?
        var leaderID = ""
        var skipsAssignment = false
        /// For the leader alone.
        var members: [Member] = []

        static func failed(_ error: KafkaErrorCode, memberID: String = "") -> Join { Join(error: error, memberID: memberID) }
    }

    struct Sync: Sendable, Equatable {
        var error = KafkaErrorCode.none
        var protocolType: String?
        var protocolName: String?
        var assignment: [UInt8] = []
    }

    struct Leave: Sendable, Equatable {
        var error = KafkaErrorCode.none
        /// In the request's order.
        var members: [KafkaErrorCode] = []
    }

    case join(Join)
    case sync(Sync)
    case heartbeat(KafkaErrorCode)
    case leave(Leave)
    case commit([TopicPartition: KafkaErrorCode])
    /// In the request's order.
    case deleteGroups([KafkaErrorCode])
    case deleteOffsets(KafkaErrorCode, [TopicPartition: KafkaErrorCode])
}

/// A group as ListGroups and DescribeGroups show it.
struct GroupDescription: Sendable, Equatable {
    struct Member: Sendable, Equatable {
        var id: String
        var instanceID: String?
        var clientID: String
        var clientHost: String
        var metadata: [UInt8]
        var assignment: [UInt8]
    }
    var id: String
    var state: String
    var protocolType: String
    var protocolName: String
    var members: [Member]
}

/// What OffsetFetch finds for a partition.
enum FetchedOffset: Sendable, Equatable {
    case committed(CommittedOffset)
    case none
    /// A transaction that may change the offset is open, and the client asked to wait for it (KIP-447).
    case unstable
}
