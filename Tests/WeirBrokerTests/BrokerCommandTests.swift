import Foundation
import Testing
import WeirKafkaWire
import WeirTestKit

/// `weir broker` as a process, and what its documentation says.
@Suite struct BrokerCommandTests {
    private func start(_ arguments: [String]) throws -> ChildProcess {
        try ChildProcess(name: "broker", executable: try LocalCluster.binaryDirectory() + "/weir", arguments: ["broker"] + arguments)
    }

    private func address(_ process: ChildProcess) throws -> String {
        String(try process.line(containing: "broker ready on ").split(separator: " ")[3].dropLast())
    }

    @Test func itSaysWhereItListensAndEndsInOrder() throws {
        let process = try start(["--topics", "a:4,b", "--property", "num.partitions=7"])
        #expect(try process.line(containing: "broker ready on ").hasSuffix(", data in memory; for development and tests"))
        let client = try WireClient(try address(process))
        let topics = try client.call(.metadata) { request in
            for name in ["a", "b", "c"] { request.append(to: "topics") { $0["name"] = .string(name) } }
        }.structures("topics")
        #expect(topics.map { $0.structures("partitions").count } == [4, 1, 7])
        kill(process.pid, SIGTERM)
        #expect(process.exitCode() == 0)
    }

    @Test func itKeepsItsDataOverAnOrderlyEndAndAKill() throws {
        let directory = TestDirectory()
        for (round, signal) in [SIGTERM, SIGKILL, SIGTERM].enumerated() {
            let process = try start(["--data", directory.path, "--fsync", "--topics", "t"])
            let client = try WireClient(try address(process))
            #expect(try client.produce("t", batch(2)).baseOffset == Int64(2 * round))
            kill(process.pid, signal)
            _ = process.exitCode()
        }
    }

    @Test func faultsComeFromAFile() throws {
        let directory = TestDirectory()
        try "on ApiVersions 2 error 42\n".write(toFile: directory.path + "/faults", atomically: true, encoding: .utf8)
        let process = try start(["--faults", directory.path + "/faults"])
        let client = try WireClient(try address(process))
        let codes = try (0..<3).map { _ in try client.call(.apiVersions).errorCode() }
        #expect(codes == [.none, .invalidRequest, .none])
        process.terminate()
    }

    @Test(arguments: [
        (["--fsync"], "--fsync needs --data"), (["--data", "/tmp", "--memory"], "--data and --memory exclude each other"),
        (["--topics", "a:x"], "--topics a:x: name:partitions is expected"), (["--property", "a"], "--property a: key=value is expected"),
        (["--property", "a=b"], "a is no property of this broker"), (["--faults", "/nonexistent"], "/nonexistent"),
        (["--log-level", "loud"], "--log-level loud is no level"), (["--topics", "a/b"], "cannot create the topic a/b"),
    ]) func mistakesAreSaid(arguments: [String], message: String) throws {
        let process = try start(arguments)
        #expect(process.exitCode() != 0)
        #expect(process.output.contains { $0.hasPrefix("error: ") && $0.contains(message) }, "\(process.output)")
    }

    @Test func theDocumentationListsTheVersions() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../proto-docs/broker.md").path
        let text = try String(contentsOfFile: path, encoding: .utf8)
        var listed: [String: String] = [:]
        for match in text.matches(of: /\| (\w+) \((\d+)\) \| ([\d-]+) (?=\|)/) { listed["\(match.1) \(match.2)"] = String(match.3) }
        var spoken: [String: String] = [:]
        for api in ApiKey.allCases {
            let versions = ApiSchema.of(api).versions
            spoken["\(api.name) \(api.rawValue)"] =
                versions.lowest == versions.highest ? "\(versions.lowest)" : "\(versions.lowest)-\(versions.highest)"
        }
        #expect(listed == spoken)
    }
}
