package import Logging
package import WeirBase
package import WeirTransport

/// How a broker runs. Everything has a default: `BrokerOptions()` listens on a free port of 127.0.0.1 and keeps its data in memory.
package struct BrokerOptions: Sendable {
    package enum Storage: Sendable, Equatable {
        case memory
        /// A directory, made if it does not exist. One broker at a time uses it.
        case directory(String)
    }

    /// A topic that is created at the start unless it exists.
    package struct InitialTopic: Sendable, Equatable {
        package var name: String
        package var partitions: Int32

        package init(name: String, partitions: Int32) {
            self.name = name
            self.partitions = partitions
        }
    }

    package var host = "127.0.0.1"
    /// 0 takes a free one.
    package var port: UInt16 = 0
    package var storage = Storage.memory
    /// Whether an acknowledgement waits until what it acknowledges is on the disk, and so survives a crash of the host. Without it, it
    /// survives a crash of the broker.
    package var fsync = false
    package var topics: [InitialTopic] = []
    /// Kafka's broker properties that are set; see ``BrokerProperties``.
    package var properties: [String: String] = [:]
    package var faults: [Fault] = []
    package var clock: any WeirClock = SystemClock()
    package var transports: any TransportProvider = PlainTransportProvider()
    package var logger = Logger(label: "weir.broker") { _ in SwiftLogNoOpLogHandler() }

    package init() {}
}
