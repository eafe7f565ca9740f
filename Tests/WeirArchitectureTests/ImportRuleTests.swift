import Foundation
import Testing

/// The floors of the architecture: imports go down only, and the pure modules import nothing that touches the world.
@Suite struct ImportRuleTests {
    private static let floors: [String: Int] = [
        "CWeirHash": 0, "CWeirScan": 0, "CWeirCodec": 0, "CWeirSystem": 0, "CWeirProcess": 0, "COpenSSL": 0, "CZlib": 0, "CRdKafka": 0, "WeirBase": 0,
        "WeirDigest": 0,
        "WeirGraph": 1, "WeirWire": 1, "WeirKafkaWire": 1,
        "WeirKafkaTransactions": 2, "WeirControl": 2, "WeirDataflow": 2, "WeirMacros": 2, "WeirFormats": 2, "WeirStreams": 2,
        "WeirConfiguration": 3, "WeirTransport": 3, "WeirStorage": 3, "WeirKafka": 3, "WeirSchemaRegistry": 3, "WeirFiles": 3, "WeirBroker": 3,
        "WeirJobManager": 4, "WeirTaskManager": 4, "WeirWorker": 4, "WeirCLI": 4, "WeirBrokerCommand": 4, "WeirKafkaCommand": 4,
        "Weir": 5, "jobmanager": 5, "taskmanager": 5, "weir-cli": 5, "Examples": 6,
        "WeirSimulation": 6, "WeirTestKit": 6,
        "weir-demo": 7, "weir-simulation": 7, "WeirTestJobs": 7, "WeirKafkaTestJob": 7, "WeirBench": 7,
    ]
    /// Within a floor only these look at each other.
    private static let sameFloor: Set<String> = [
        "WeirBase>CWeirHash", "WeirDigest>COpenSSL", "WeirStreams>WeirDataflow", "WeirStreams>WeirFormats", "WeirFormats>WeirMacros",
        "WeirBroker>WeirTransport", "WeirKafkaCommand>WeirCLI",
    ]
    private static let pure: Set<String> = ["WeirBase", "WeirGraph", "WeirKafkaWire", "WeirControl", "WeirDataflow"]
    private static let worldly: Set<String> = ["Foundation", "FoundationEssentials", "Glibc", "Dispatch", "NIO", "Logging"]

    private struct Import {
        var module: String
        var file: String
        var name: String
    }

    private static let sources = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("Sources")

    private static func modules() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: sources.path).filter { !$0.hasPrefix(".") }.sorted()
    }

    private static func imports() throws -> [Import] {
        let pattern =
            /^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|private)\s+)?import\s+(?:(?:struct|class|enum|func|protocol)\s+)?(\w+)/
        var found: [Import] = []
        for module in try modules() {
            let root = sources.appendingPathComponent(module)
            guard let files = FileManager.default.enumerator(atPath: root.path) else { continue }
            for case let file as String in files where file.hasSuffix(".swift") && !file.hasSuffix(".pb.swift") {
                let text = try String(contentsOf: root.appendingPathComponent(file), encoding: .utf8)
                for line in text.split(separator: "\n") {
                    if let match = try pattern.firstMatch(in: line) {
                        found.append(Import(module: module, file: file, name: String(match.1)))
                    }
                }
            }
        }
        return found
    }

    @Test func everyModuleHasAFloor() throws {
        let modules = try Self.modules()
        #expect(modules.count > 20)
        for module in modules { #expect(Self.floors[module] != nil, "\(module) is not in the table of floors") }
    }

    @Test func importsGoDownOnly() throws {
        let imports = try Self.imports()
        #expect(imports.count > 100, "the pattern finds imports")
        for item in imports {
            guard let from = Self.floors[item.module], let to = Self.floors[item.name] else { continue }
            #expect(to < from || Self.sameFloor.contains("\(item.module)>\(item.name)"), "\(item.module)/\(item.file) imports \(item.name)")
        }
    }

    @Test func pureModulesTouchNothing() throws {
        for item in try Self.imports() where Self.pure.contains(item.module) {
            #expect(!Self.worldly.contains(item.name), "\(item.module)/\(item.file) imports \(item.name)")
        }
    }
}
