import WeirBase
import WeirKafkaWire

/// The data directory of a broker, locked against a second one.
///
///     broker        the format's version and the cluster's id
///     lock          held while a broker runs
///     topics        ``TopicFile``
///     logs/         a directory a partition
///     journal/      groups and transactions
package final class DataDirectory {
    package let path: String
    package let clusterID: String
    private let lock: DataFile
    private static let firstLine = "weir-broker 1"

    package var logsPath: String { path + "/logs" }
    package var journalPath: String { path + "/journal" }
    var topicFile: TopicFile { TopicFile(path: path + "/topics") }

    /// - Throws: ``BrokerFailure`` when another broker uses the directory, or its files are of another version.
    init(_ path: String, makeID: () -> KafkaUUID) throws(BrokerFailure) {
        self.path = path
        try DataFile.makeDirectory(path)
        lock = try DataFile(path + "/lock", .write)
        guard lock.lock() else { throw BrokerFailure("another broker uses the data directory", path: path) }
        let identity = path + "/broker"
        if !DataFile.exists(identity) {
            try DataFile.replace(identity, with: Array("\(Self.firstLine)\ncluster-id \(makeID())\n".utf8))
        }
        let file = try DataFile(identity, .read)
        let lines = String(decoding: try file.read(min(try file.size(), 1_024), at: 0).array, as: UTF8.self).split(separator: "\n")
        guard lines.first.map(String.init) == Self.firstLine, lines.count == 2, lines[1].hasPrefix("cluster-id ") else {
            throw BrokerFailure("the data directory is not one of this version", path: identity)
        }
        clusterID = String(lines[1].dropFirst("cluster-id ".count))
        try DataFile.makeDirectory(path + "/logs")
        try DataFile.makeDirectory(path + "/journal")
    }

    /// Lets another broker use the directory.
    func close() { lock.close() }
}
