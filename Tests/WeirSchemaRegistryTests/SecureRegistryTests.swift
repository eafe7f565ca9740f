import Foundation
import Testing
import WeirBase
import WeirFormats
import WeirTestKit

@testable import WeirSchemaRegistry

/// A registry behind HTTPS.
@Suite(.serialized) struct SecureRegistryTests {
    /// `openssl s_server`, with a certificate that no authority of the system has signed.
    private final class Server {
        let directory = NSTemporaryDirectory() + "weir-registry-" + UUID().uuidString
        private(set) var process: ChildProcess?
        private(set) var address = ""

        init() throws {
            try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
            let request = try ChildProcess(
                name: "openssl", executable: "/bin/sh",
                arguments: [
                    "-c",
                    "cd \(directory) && exec openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.pem -days 2 -subj /CN=localhost",
                ])
            #expect(request.exitCode() == 0, "\(request.output)")
            let process = try ChildProcess(
                name: "openssl", executable: "/bin/sh",
                arguments: ["-c", "cd \(directory) && exec openssl s_server -accept 127.0.0.1:0 -cert server.pem -key server.key -HTTP"])
            self.process = process
            let line = try process.line(containing: "ACCEPT ")
            let port = try #require(line.split(separator: ":").last.flatMap { Int($0) }, "\(line)")
            address = "https://localhost:\(port)"
        }

        deinit {
            process?.kill()
            try? FileManager.default.removeItem(atPath: directory)
        }
    }

    @Test func aCertificateThatTheSystemDoesNotTrustIsToldWithWhatToDo() throws {
        let server = try Server()
        var options = ConfluentSchemaRegistry.Options()
        options.requestTimeout = .seconds(1)
        options.timeout = .seconds(1)
        let registry = try ConfluentSchemaRegistry(server.address, options: options)
        let failure = #expect(throws: JobFailure.self) { try registry.register(try AvroSchema(parsing: "\"int\""), subject: "s") }
        #expect(failure?.message == "cannot register the schema of subject s at \(server.address)")
        #expect(failure?.cause?.contains("update-ca-certificates") == true, "\(failure?.cause ?? "")")
        #expect(failure?.recovery == .restart)
    }
}
