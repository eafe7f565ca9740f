// swift-tools-version: 6.2
import CompilerPluginSupport
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")

func syntax(_ name: String) -> Target.Dependency { .product(name: name, package: "swift-syntax") }

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func program(_ name: String, _ dependencies: [Target.Dependency], path: String? = nil) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], fixtures: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: fixtures, swiftSettings: settings)
}

let package = Package(
    name: "weir",
    products: [
        .library(name: "Weir", targets: ["Weir"]),
        .library(name: "WeirSchemaRegistry", targets: ["WeirSchemaRegistry"]),
        .executable(name: "weir", targets: ["weir-cli"]),
        .executable(name: "jobmanager", targets: ["jobmanager"]),
        .executable(name: "taskmanager", targets: ["taskmanager"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
        .package(url: "https://github.com/swiftlang/swift-syntax", from: "603.0.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: [
        // Floor 0
        .target(name: "CWeirHash"),
        .target(name: "CWeirScan"),
        // With the headers of zlib, and without linking it: see its header.
        .target(name: "CWeirCodec"),
        .target(name: "CWeirSystem"),
        .target(name: "CWeirProcess"),
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CRdKafka", pkgConfig: "rdkafka", providers: [.apt(["librdkafka-dev"])]),
        module("WeirBase", ["CWeirHash"]),
        module("WeirDigest", ["COpenSSL"]),
        // Floor 1
        module("WeirGraph", ["WeirBase"]),
        module("WeirWire", ["WeirBase", protobuf]),
        module("WeirKafkaWire", ["WeirBase"]),
        // Floor 2
        module("WeirControl", ["WeirBase", "WeirGraph"]),
        module("WeirDataflow", ["WeirBase", "WeirGraph"]),
        .macro(
            name: "WeirMacros",
            dependencies: [
                syntax("SwiftSyntax"), syntax("SwiftSyntaxBuilder"), syntax("SwiftSyntaxMacros"), syntax("SwiftDiagnostics"), syntax("SwiftParser"),
                syntax("SwiftCompilerPlugin"),
            ], swiftSettings: settings),
        module("WeirFormats", ["WeirBase", "WeirMacros", "CWeirScan", "CZlib"]),
        module("WeirStreams", ["WeirBase", "WeirGraph", "WeirDataflow", "WeirFormats"]),
        module("WeirKafkaTransactions", ["WeirBase", "WeirKafkaWire", "CWeirSystem"]),
        // Floor 3
        module("WeirConfiguration", ["WeirBase", "WeirControl", "Yams"]),
        module("WeirTransport", ["WeirBase", "WeirWire", "CWeirSystem", logging, protobuf]),
        module("WeirStorage", ["WeirBase", "WeirDigest", "WeirControl", "WeirDataflow"]),
        module("WeirKafka", ["WeirBase", "WeirDataflow", "WeirStreams", "WeirFormats", "WeirKafkaTransactions", "CRdKafka", logging]),
        module("WeirBroker", ["WeirBase", "WeirDigest", "WeirKafkaWire", "WeirTransport", "CWeirSystem", "CWeirCodec", "COpenSSL", logging]),
        // A product of its own: whoever needs no registry does not load FoundationNetworking, and libcurl with it.
        module("WeirSchemaRegistry", ["WeirBase", "WeirFormats"]),
        module("WeirFiles", ["WeirBase", "WeirDataflow", "WeirStreams", "WeirFormats"]),
        // Floor 4
        module(
            "WeirJobManager",
            [
                "WeirBase", "WeirGraph", "WeirWire", "WeirControl", "WeirTransport", "WeirStorage", "WeirConfiguration", "CWeirProcess", logging,
                protobuf, argumentParser,
            ]),
        module("WeirTaskManager", ["WeirBase", "WeirWire", "WeirTransport", "WeirDigest", "CWeirSystem", "CWeirProcess", logging, protobuf]),
        module(
            "WeirWorker",
            [
                "WeirBase", "WeirGraph", "WeirWire", "WeirDataflow", "WeirStreams", "WeirTransport", "WeirStorage", "CWeirSystem", logging, metrics,
                protobuf,
            ]),
        module(
            "WeirCLI",
            [
                "WeirBase", "WeirWire", "WeirControl", "WeirDataflow", "WeirTransport", "WeirStorage", "WeirConfiguration", "WeirDigest",
                "CWeirProcess", logging, protobuf, argumentParser,
            ]),
        module("WeirBrokerCommand", ["WeirBase", "WeirBroker", logging, argumentParser]),
        module(
            "WeirKafkaCommand",
            [
                "WeirBase", "WeirControl", "WeirKafkaTransactions", "WeirKafkaWire", "WeirStorage", "WeirTransport", "WeirCLI", argumentParser,
            ]),
        // Floor 5
        module(
            "Weir",
            [
                "WeirBase", "WeirGraph", "WeirWire", "WeirStreams", "WeirFormats", "WeirKafka", "WeirFiles", "WeirWorker", "WeirJobManager",
                "WeirTaskManager", "WeirCLI", "WeirConfiguration", "WeirTransport", "CWeirSystem", logging, argumentParser,
            ]),
        program("jobmanager", ["WeirJobManager", argumentParser]),
        program("taskmanager", ["WeirBase", "WeirTaskManager", "WeirConfiguration", logging, argumentParser]),
        program("weir-cli", ["WeirCLI", "WeirBrokerCommand", "WeirKafkaCommand", argumentParser]),
        program("TelemetryAggregate", ["Weir"], path: "Sources/Examples/TelemetryAggregate"),
        program("WordCount", ["Weir"], path: "Sources/Examples/WordCount"),
        // Development
        module("WeirSimulation", ["WeirBase", "WeirGraph", "WeirControl"]),
        module("WeirTestKit", ["WeirBase", "WeirWire", "WeirStorage", "WeirCLI", "CRdKafka"]),
        program("weir-demo", ["WeirTestKit"]),
        program("weir-simulation", ["WeirBase", "WeirSimulation"]),
        program("weir-testjob", ["Weir", "WeirKafka", "WeirTestKit"], path: "Sources/WeirTestJobs"),
        program("weir-kafka-testjob", ["Weir"], path: "Sources/WeirKafkaTestJob"),
        program(
            "WeirBench",
            [
                "Weir", "WeirBase", "WeirGraph", "WeirDataflow", "WeirWire", "WeirStorage", "WeirWorker", "WeirCLI", "WeirTestKit", "CWeirProcess",
                "CWeirSystem", "CRdKafka", argumentParser,
            ]),
        // Tests
        tests("WeirBaseTests", ["WeirBase"]),
        tests("WeirGraphTests", ["WeirBase", "WeirGraph"]),
        tests("WeirWireTests", ["WeirBase", "WeirWire", protobuf]),
        tests("WeirKafkaWireTests", ["WeirBase", "WeirKafkaWire"], fixtures: ["Fixtures"]),
        tests("WeirControlTests", ["WeirBase", "WeirGraph", "WeirControl"]),
        tests("WeirSimulationTests", ["WeirSimulation", "WeirTestKit"]),
        tests("WeirDataflowTests", ["WeirBase", "WeirGraph", "WeirDataflow"]),
        tests("WeirFormatsTests", ["WeirBase", "WeirFormats", "CWeirScan"]),
        tests("WeirSchemaRegistryTests", ["WeirBase", "WeirFormats", "WeirSchemaRegistry", "WeirTestKit"]),
        tests("WeirStreamsTests", ["WeirBase", "WeirGraph", "WeirDataflow", "WeirFormats", "WeirStreams"]),
        tests("WeirTransportTests", ["WeirBase", "WeirWire", "WeirTransport", logging, protobuf]),
        tests("WeirStorageTests", ["WeirBase", "WeirStorage", "WeirControl", "WeirDataflow"]),
        tests(
            "WeirKafkaTests",
            [
                "WeirBase", "WeirGraph", "WeirDataflow", "WeirStreams", "WeirFormats", "WeirSchemaRegistry", "WeirKafka", "WeirKafkaWire",
                "WeirBroker",
                "WeirTestKit", "CRdKafka",
            ]),
        tests(
            "WeirBrokerTests",
            ["WeirBase", "WeirDigest", "WeirKafkaWire", "WeirTransport", "WeirBroker", "WeirTestKit", "CRdKafka", logging], fixtures: ["Clients"]),
        tests("WeirFilesTests", ["WeirBase", "WeirGraph", "WeirDataflow", "WeirStreams", "WeirFormats", "WeirFiles"]),
        tests(
            "WeirKafkaSinkTests",
            [
                "WeirBase", "WeirGraph", "WeirDataflow", "WeirStreams", "WeirFormats", "WeirKafkaWire", "WeirKafkaTransactions", "WeirKafka",
                "WeirBroker",
                "CRdKafka", logging,
            ]),
        tests(
            "WeirKafkaCommandTests",
            [
                "WeirBase", "WeirControl", "WeirDataflow", "WeirStorage", "WeirTransport", "WeirBroker", "WeirKafkaWire", "WeirKafkaTransactions",
                "WeirWorker", "WeirCLI", "WeirKafkaCommand", "WeirTestKit", argumentParser,
            ]),
        tests("WeirKafkaTransactionsTests", ["WeirBase", "WeirKafkaWire", "WeirKafkaTransactions"]),
        tests("WeirArchitectureTests", []),
        tests(
            "WeirJobManagerTests",
            ["WeirBase", "WeirConfiguration", "WeirControl", "WeirStorage", "WeirWire", "WeirTransport", "WeirJobManager", "WeirTestKit", logging]),
        tests("WeirWorkerTests", ["WeirBase", "WeirGraph", "WeirWire", "WeirDataflow", "WeirTransport", "WeirStorage", "WeirWorker", metrics]),
        tests("WeirEndToEndTests", ["WeirBase", "WeirWire", "WeirTestKit"], fixtures: ["Fixtures"]),
        tests(
            "WeirTaskManagerTests",
            ["WeirBase", "WeirWire", "WeirTransport", "WeirConfiguration", "WeirDigest", "WeirTaskManager", logging, protobuf]),
        tests("WeirCLITests", ["WeirWire", "WeirTransport", "WeirCLI", logging, protobuf, argumentParser]),
        tests(
            "WeirMacrosTests",
            [
                "WeirMacros", syntax("SwiftSyntax"), syntax("SwiftSyntaxBuilder"), syntax("SwiftSyntaxMacros"), syntax("SwiftDiagnostics"),
                syntax("SwiftParser"), syntax("SwiftSyntaxMacroExpansion"),
            ]),
    ]
)
