import Foundation
import Testing
import WeirCLI

@Suite struct JobBinaryTests {
    private let path = NSTemporaryDirectory() + "weir-binary-" + UUID().uuidString

    private func message() -> String {
        do {
            try JobBinary.check(path: path)
            return ""
        } catch { return error.description }
    }

    @Test func whatCannotRunIsSaidInWords() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(message().hasPrefix("error: cannot run \(path): No such file or directory\nhint: build the job"))
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        #expect(message().hasPrefix("error: \(path) is not a file"))
        try FileManager.default.removeItem(atPath: path)
        #expect(FileManager.default.createFile(atPath: path, contents: Data()))
        #expect(message().hasPrefix("error: \(path) is empty\nhint: build the job"))
        try Data("#!/bin/sh".utf8).write(to: URL(filePath: path))
        #expect(message().hasPrefix("error: \(path) is a script"))
    }

    @Test func aProgramHasToBeExecutable() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        try FileManager.default.copyItem(atPath: "/bin/true", toPath: path)
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
        #expect(message() == "error: \(path) is not executable\nhint: chmod +x \(path)")
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        #expect(message() == "")
    }
}
