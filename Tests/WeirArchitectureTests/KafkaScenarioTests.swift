import Foundation
import Testing

/// The table of the Kafka connector's scenarios is complete, and what it names is there.
@Suite struct KafkaScenarioTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    @Test func everyScenarioNamesTestsThatExist() throws {
        let document = try String(contentsOf: Self.root.appendingPathComponent("proto-docs/kafka-scenarios.md"), encoding: .utf8)
        var scenarios: [Int] = []
        var named: Set<String> = []
        for line in document.split(separator: "\n") {
            let names = line.matches(of: #/`([a-z]\w+)`/#).map { String($0.1) }.filter { $0 != "make" }
            named.formUnion(names)
            guard let row = line.firstMatch(of: #/^\| (\d+) \|/#), let number = Int(row.1) else { continue }
            scenarios.append(number)
            #expect(!names.isEmpty, "scenario \(number) has no test")
        }
        #expect(scenarios == Array(1...37))
        let tests = try Self.testNames()
        #expect(tests.count > 300)
        for name in named.sorted() { #expect(tests.contains(name), "there is no test \(name)") }
    }

    private static func testNames() throws -> Set<String> {
        var names: Set<String> = []
        let tests = root.appendingPathComponent("Tests")
        for case let file as String in FileManager.default.enumerator(atPath: tests.path) ?? .init() where file.hasSuffix(".swift") {
            let text = try String(contentsOf: tests.appendingPathComponent(file), encoding: .utf8)
            for match in text.matches(of: #/@Test[^{]*?func (\w+)\(/#) { names.insert(String(match.1)) }
        }
        return names
    }
}
