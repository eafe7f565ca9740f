import ArgumentParser
import Testing

@testable import WeirCLI

@Suite struct CommandLineTests {
    private func run(_ words: String...) throws -> RunCommand {
        try #require(try WeirCommand.parseAsRoot(WeirCommand.words(words)) as? RunCommand)
    }

    private func exitCode(_ words: String...) -> Int32 {
        do {
            _ = try WeirCommand.parseAsRoot(words)
            return 0
        } catch { return WeirCommand.exitCode(for: error).rawValue }
    }

    @Test func runTakesOptionsThenTheBinaryThenItsArguments() throws {
        let command = try run(
            "run", "-d", "-p", "4", "--name", "N", "--from-checkpoint", "/cp", "-D", "a.b=1", "-Dc=x=y", "--jobmanager", "h:1", "bin/Job",
            "--", "--bootstrap", "k:9092", "-p", "7", "-Dx")
        #expect(command.detached && command.parallelism == 4 && command.name == "N" && command.from == "/cp")
        #expect(command.definitions == ["a.b=1", "c=x=y"])
        #expect(command.binary == "bin/Job" && command.arguments == ["--bootstrap", "k:9092", "-p", "7", "-Dx"])
        #expect(command.cluster.jobManager == "h:1")
    }

    @Test func mistakesAreUsageErrors() {
        #expect(exitCode("run") == 64)
        #expect(exitCode("run", "-p", "0", "bin") == 64)
        #expect(exitCode("run", "-p", "x", "bin") == 64)
        #expect(exitCode("run", "bin", "extra") == 64)
        #expect(exitCode("nonsense") == 64)
        #expect(exitCode("info") == 64)
        #expect(exitCode("--version") == 0)
    }

    @Test func everyCommandTakesTheClusterOptions() throws {
        for words in [["list", "--all"], ["info", "j"], ["cancel", "j"], ["logs", "j", "--worker", "w", "--follow"], ["cluster"]] {
            #expect(throws: Never.self) { try WeirCommand.parseAsRoot(words + ["--jobmanager", "h:1", "--json", "--config", "f"]) }
        }
    }

    @Test func addressComesFromTheConfiguration() throws {
        let options = try ClusterOptions.parse([])
        let address = try options.address(try options.configuration(definitions: ["jobmanager.rpc.address=h", "jobmanager.rpc.port=7"]))
        #expect(address == JobManagerAddress(host: "h", port: 7))
        let named = try options.address(try options.configuration(definitions: ["cluster.id=blue"]))
        #expect(named.clusterID == "blue")
    }
}
