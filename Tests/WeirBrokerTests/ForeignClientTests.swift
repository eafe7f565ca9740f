import Foundation
import Testing
import WeirBroker
import WeirTestKit

/// Clients that nobody here wrote, unmodified: `kcat` and the Python packages in `Clients/requirements.txt`, which `make deps` installs.
@Suite struct ForeignClientTests {
    private static let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    private static let python = tests.appendingPathComponent("../../.build/clients/bin/python").standardized.path

    private let test: TestBroker

    init() throws { test = try TestBroker() }

    /// Runs a program and returns its lines; it must end with 0 within two minutes.
    private func run(_ program: String, _ arguments: [String]) throws -> [String] {
        try #require(FileManager.default.isExecutableFile(atPath: program), "\(program) is missing: run make deps")
        let process = try ChildProcess(name: program, executable: "/usr/bin/timeout", arguments: ["120", program] + arguments)
        let code = process.exitCode()
        #expect(code == 0, "\(program) \(arguments.joined(separator: " "))\n\(process.output.suffix(30).joined(separator: "\n"))")
        return process.output
    }

    @Test(arguments: ["confluent_client.py", "kafka_python_client.py", "aiokafka_client.py"], ["produce", "rebalance", "transactions", "admin"])
    func aPythonClientWorks(script: String, scenario: String) throws {
        let path = Self.tests.appendingPathComponent("Clients/" + script).path
        #expect(try run(Self.python, [path, test.broker.bootstrap, scenario]).last == "passed: \(scenario)")
    }

    private func kcat(_ arguments: String...) throws -> [String] { try run("/usr/bin/kcat", ["-b", test.broker.bootstrap] + arguments) }

    @Test func kcatWritesReadsAndLists() throws {
        let directory = TestDirectory()
        let input = directory.path + "/input"
        try "a:1\nb:2\nc:3\n".write(toFile: input, atomically: false, encoding: .utf8)
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let topic = "kcat-\(codec)"
            _ = try kcat("-P", "-t", topic, "-p", "0", "-K", ":", "-H", "name=value", "-z", codec, "-l", input)
            let read = try kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o %k=%s %h\n")
            #expect(read == ["0 a=1 name=value", "1 b=2 name=value", "2 c=3 name=value"])
            #expect(try kcat("-C", "-t", topic, "-o", "-1", "-e", "-q", "-f", "%s\n") == ["3"])
            #expect(try kcat("-Q", "-t", "\(topic):0:-1") == ["\(topic) [0] offset 3"])
        }
        let listed = try kcat("-L")
        #expect(listed.contains { $0.contains("broker 1 at \(test.broker.bootstrap)") })
        #expect(listed.contains { $0.contains("topic \"kcat-lz4\" with 1 partitions") })
    }

    @Test func kcatReadsAsAMemberOfAGroup() throws {
        try test.client.createTopic("g", partitions: 3)
        for partition in 0..<3 as Range<Int32> { _ = try test.client.produce("g", batch(2), partition: partition) }
        let first = try kcat("-G", "group", "-q", "-e", "-X", "auto.offset.reset=earliest", "-f", "%p:%o\n", "g")
        #expect(first.sorted() == ["0:0", "0:1", "1:0", "1:1", "2:0", "2:1"])
        _ = try test.client.produce("g", batch(), partition: 1)
        // The group goes on where it was.
        #expect(try kcat("-G", "group", "-q", "-e", "-X", "auto.offset.reset=earliest", "-f", "%p:%o\n", "g") == ["1:2"])
    }
}
