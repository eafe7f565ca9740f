import Foundation
import WeirBase
import WeirTestKit

/// The embedded broker in a process of its own, with its data on the disk: it can be killed, or stopped for a while, and comes back on its port
/// with what it had.
final class BrokerProcess {
    private let binaries: String
    private let directory: String
    private let arguments: [String]
    private var process: ChildProcess?
    private(set) var port: UInt16 = 0
    private var isSuspended = false

    /// - Parameters:
    ///   - directory: For its data.
    ///   - faults: Lines of a file of faults, see proto-docs/broker.md; those of the first start only.
    init(binaries: String, directory: String, topics: KeyValuePairs<String, Int32> = [:], faults: String? = nil) throws {
        self.binaries = binaries
        self.directory = directory
        let names = topics.map { "\($0):\($1)" }.joined(separator: ",")
        arguments = names.isEmpty ? [] : ["--topics", names]
        var more: [String] = []
        if let faults {
            let file = directory + ".faults"
            try faults.write(toFile: file, atomically: true, encoding: .utf8)
            more = ["--faults", file]
        }
        try start(arguments + more)
    }

    deinit { stop() }

    var bootstrap: String { "127.0.0.1:\(port)" }

    private func start(_ more: [String]) throws {
        let process = try ChildProcess(
            name: "broker", executable: binaries + "/weir",
            arguments: ["broker", "--until-stdin-ends", "--port", "\(port)", "--data", directory, "--property", "num.partitions=1"] + more)
        let words = try process.line(containing: "broker ready on ").split(separator: " ")
        guard words.count > 3, let found = UInt16(words[3].dropLast().split(separator: ":").last ?? "") else {
            throw JobFailure(domain: .system, recovery: .fail, message: "no port in \"\(words)\"")
        }
        port = found
        self.process = process
    }

    /// SIGKILL.
    func kill() {
        resume()
        process?.kill()
        process = nil
    }

    func startAgain() throws { try start(arguments) }

    /// SIGSTOP: what is sent to it waits in its sockets.
    func suspend() {
        guard let pid = process?.pid else { return }
        Glibc.kill(pid, SIGSTOP)
        isSuspended = true
    }

    func resume() {
        guard isSuspended, let pid = process?.pid else { return }
        Glibc.kill(pid, SIGCONT)
        isSuspended = false
    }

    func stop() {
        resume()
        process?.terminate()
        process = nil
    }
}
