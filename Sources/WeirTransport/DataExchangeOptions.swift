package import WeirBase

/// The bounds of a worker's data exchange.
package struct DataExchangeOptions: Sendable {
    package var host = "127.0.0.1"
    /// 0: any free one; see ``DataExchange/port``.
    package var port: UInt16 = 0
    /// What one credit stands for. A frame costs one credit for each of these that it fills in part.
    package var bufferBytes = 32 << 10
    /// Credits that a channel has: `bufferBytes` times this bounds what a stalled consumer costs on both sides together.
    package var creditsPerChannel = 16
    /// The largest frame. One that costs more credits than a channel has is sent once the channel is all but empty.
    package var frameBytesMax = 16 << 20
    /// How long a connection of an epoch that this worker was not told of yet may wait for it.
    package var epochWaitTimeout = Duration.seconds(30)
    package var connectTimeout = Duration.seconds(10)
    /// Connections that are not admitted to an epoch yet.
    package var waitingConnectionsMax = 1_024
    /// How long the kernel keeps trying a peer that does not acknowledge, see TCP_USER_TIMEOUT.
    package var unreachableTimeout = Duration.seconds(15)
    /// A secret that all workers of the job have; empty: none.
    package var token = ""

    package init() {}
}

/// Another worker of an epoch.
package struct ExchangePeer: Sendable, Equatable {
    /// Its number within the epoch.
    package var index: UInt32
    package var worker: WorkerID
    package var host: String
    package var port: UInt16

    package init(index: UInt32, worker: WorkerID, host: String, port: UInt16) {
        self.index = index
        self.worker = worker
        self.host = host
        self.port = port
    }
}

/// What a data exchange did since it started.
package struct DataExchangeCounters: Sendable, Equatable {
    package var framesSent: UInt64 = 0
    package var bytesSent: UInt64 = 0
    package var framesReceived: UInt64 = 0
    package var bytesReceived: UInt64 = 0
}

/// How credits are counted, on both sides alike; part of the protocol, see proto-docs/data-channel.md.
enum CreditRule {
    /// The credits that a frame uses up.
    static func cost(of bytes: Int, bufferBytes: Int) -> Int { max(1, (bytes + bufferBytes - 1) / bufferBytes) }

    /// The receiver gives credits back in lots of at least this many, for each grant is a message.
    static func returnThreshold(window: Int) -> Int { max(1, window / 4) }

    /// The credits that must be there to send a frame. One that costs more than ever is there leaves a debt, and nothing follows it
    /// until the debt is paid: an idle channel has all but what the receiver holds back to make a lot.
    static func needed(cost: Int, window: Int) -> Int { min(cost, window - returnThreshold(window: window) + 1) }
}

/// The numbers of the channels of an epoch: dense, and the same on every worker, which all know the graph and its parallelism.
package struct ChannelNumbering: Sendable, Equatable {
    private var bases: [UInt32] = []
    private var widths: [UInt32] = []

    /// - Parameter edges: For each edge of the job graph, in its order: the parallelism of its two vertices, both at least 1.
    /// - Returns: Nil when there are more than 2^32 channels.
    package init?(edges: [(from: Int, to: Int)]) {
        var next: UInt64 = 0
        for edge in edges {
            guard edge.from > 0, edge.to > 0, edge.from < 1 << 20, edge.to < 1 << 20, next <= UInt64(UInt32.max) else { return nil }
            bases.append(UInt32(next))
            widths.append(UInt32(edge.to))
            next += UInt64(edge.from) * UInt64(edge.to)
        }
        guard next <= UInt64(UInt32.max) else { return nil }
    }

    package func channel(edge: Int, from: Int, to: Int) -> UInt32 {
        bases[edge] + UInt32(from) * widths[edge] + UInt32(to)
    }
}
