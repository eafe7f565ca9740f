internal import Glibc
package import WeirBase

/// What a TaskManager is started with.
package struct TaskManagerOptions: Sendable, Equatable {
    /// `taskmanager.resource-id`.
    package var resourceID: String
    /// The name of the host, for people.
    package var host: String
    package var slots: Int
    /// `taskmanager.slots.pinned`: whether each slot's thread stays on one processor.
    package var pinsSlots: Bool
    /// The address that its workers listen on for data.
    package var bindHost: String
    /// The address at which other workers reach them.
    package var dataHost: String
    package var jobManagerHost: String
    package var jobManagerPort: UInt16
    package var clusterID: String
    /// Until the JobManager says its own.
    package var heartbeatInterval: Duration
    package var heartbeatTimeout: Duration
    package var artifactDirectory: String
    package var logDirectory: String

    package init(
        resourceID: String, host: String = "localhost", slots: Int = 1, pinsSlots: Bool = false, bindHost: String = "127.0.0.1",
        dataHost: String = "127.0.0.1", jobManagerHost: String = "127.0.0.1", jobManagerPort: UInt16, clusterID: String = "weir",
        heartbeatInterval: Duration = .seconds(1), heartbeatTimeout: Duration = .seconds(10), artifactDirectory: String, logDirectory: String
    ) {
        self.resourceID = resourceID
        self.host = host
        self.slots = slots
        self.pinsSlots = pinsSlots
        self.bindHost = bindHost
        self.dataHost = dataHost
        self.jobManagerHost = jobManagerHost
        self.jobManagerPort = jobManagerPort
        self.clusterID = clusterID
        self.heartbeatInterval = heartbeatInterval
        self.heartbeatTimeout = heartbeatTimeout
        self.artifactDirectory = artifactDirectory
        self.logDirectory = logDirectory
    }

    /// - Throws: ``ConfigurationError`` with every problem that the keys' own ranges do not exclude.
    package init(configuration: Configuration) throws(ConfigurationError) {
        let host = hostName()
        let resourceID = configuration.string("taskmanager.resource-id") ?? "tm-\(host)-\(getpid())"
        let bindHost = configuration.string("taskmanager.bind-host") ?? "127.0.0.1"
        let scratch = (configuration.string("io.tmp.dirs") ?? "/tmp") + "/weir-taskmanager-" + resourceID
        let interval = configuration.duration("heartbeat.interval") ?? .seconds(1)
        let timeout = configuration.duration("heartbeat.timeout") ?? .seconds(10)
        var problems: [String] = []
        if !isName(resourceID) {
            problems.append("taskmanager.resource-id is \"\(resourceID)\": it takes 1 to 128 letters, digits, dots, dashes and underscores")
        }
        let port = configuration.integer("jobmanager.rpc.port") ?? 6_123
        if port == 0 { problems.append("jobmanager.rpc.port is 0: a TaskManager needs the port that the JobManager printed") }
        if interval < .milliseconds(10) { problems.append("heartbeat.interval is shorter than 10 ms") }
        if timeout <= interval { problems.append("heartbeat.timeout must be longer than heartbeat.interval") }
        guard problems.isEmpty else { throw ConfigurationError(problems) }
        self.init(
            resourceID: resourceID, host: host, slots: configuration.integer("taskmanager.numberOfTaskSlots") ?? 1,
            pinsSlots: configuration.boolean("taskmanager.slots.pinned") ?? false, bindHost: bindHost,
            dataHost: configuration.string("taskmanager.host") ?? bindHost,
            jobManagerHost: configuration.string("jobmanager.rpc.address") ?? "127.0.0.1", jobManagerPort: UInt16(clamping: port),
            clusterID: configuration.string("cluster.id") ?? "weir", heartbeatInterval: interval, heartbeatTimeout: timeout,
            artifactDirectory: scratch + "/artifacts", logDirectory: configuration.string("taskmanager.log.dir") ?? scratch + "/log")
    }
}

/// Whether a text can be a part of a path: nothing that leaves a directory or hides in it.
func isName(_ text: String) -> Bool {
    guard (1...128).contains(text.utf8.count), !text.hasPrefix(".") else { return false }
    return text.utf8.allSatisfy { byte in
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || byte == 0x2D || byte == 0x2E
            || byte == 0x5F
    }
}

/// The host's name with only what a resource id takes.
private func hostName() -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
    let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    let name = String(decoding: bytes, as: UTF8.self).filter { isName("x\($0)") }
    return name.isEmpty ? "localhost" : String(name.prefix(64))
}
