// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
}

let package = Package(
    name: "weir",
    dependencies: [
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2")
    ],
    targets: [
        // Floor 0
        .target(name: "CWeirHash"),
        module("WeirBase", ["CWeirHash"]),
        // Floor 1
        module("WeirGraph", ["WeirBase"]),
        // Floor 3
        module("WeirConfiguration", ["WeirBase", "Yams"]),
        // Tests
        tests("WeirBaseTests", ["WeirBase"]),
        tests("WeirGraphTests", ["WeirBase", "WeirGraph"]),
    ]
)
