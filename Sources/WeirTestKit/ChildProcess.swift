internal import Dispatch
internal import Foundation
internal import Glibc
internal import Synchronization
internal import WeirBase

/// A process of this one: started with its output read line by line, stopped by its pid.
package final class ChildProcess: @unchecked Sendable {  // `process` is started in init and then only asked; the lines are guarded.
    private let process = Process()
    private let lines = Mutex<[String]>([])
    private let input = Pipe()
    /// Up once the output has ended.
    private let hasAllOutput = DispatchSemaphore(value: 0)
    package let name: String

    /// - Parameter environment: Laid over this process's.
    package init(name: String, executable: String, arguments: [String], environment: [String: String] = [:]) throws {
        self.name = name
        guard FileManager.default.isExecutableFile(atPath: executable) else {
            throw JobFailure(
                domain: .configuration, recovery: .fail, message: "there is no program \(executable)", cause: "build first: make build")
        }
        process.executableURL = URL(fileURLWithPath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = input
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        Thread.detachNewThread { [weak self, hasAllOutput] in
            var rest = Data()
            while true {
                let chunk = output.fileHandleForReading.availableData
                guard !chunk.isEmpty else { break }
                rest.append(chunk)
                while let end = rest.firstIndex(of: 0x0A) {
                    let line = String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
                    self?.lines.withLock { $0.append(line) }
                    rest = Data(rest[(end + 1)...])
                }
            }
            if !rest.isEmpty { self?.lines.withLock { $0.append(String(decoding: rest, as: UTF8.self)) } }
            hasAllOutput.signal()
        }
    }

    deinit { kill() }

    package var pid: Int32 { process.processIdentifier }
    package var isRunning: Bool { process.isRunning }
    package var output: [String] { lines.withLock { $0 } }

    /// SIGKILL, and waits for the end.
    package func kill() {
        guard process.isRunning else { return }
        Glibc.kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    /// SIGTERM; SIGKILL where that does not end it within 10 s.
    package func terminate() {
        guard process.isRunning else { return }
        Glibc.kill(process.processIdentifier, SIGTERM)
        for _ in 0..<1_000 where process.isRunning { usleep(10_000) }
        kill()
    }

    /// Waits for the end, and for what was printed before it. The number of the signal for a process that was ended by one.
    package func exitCode() -> Int32 {
        process.waitUntilExit()
        _ = awaitOutput(.now() + 2)
        return process.terminationStatus
    }

    /// The output ends with the process, unless another one that it started lives on.
    private func awaitOutput(_ deadline: DispatchTime) -> Bool {
        guard hasAllOutput.wait(timeout: deadline) == .success else { return false }
        hasAllOutput.signal()
        return true
    }

    /// Waits for a line that contains a text.
    ///
    /// - Throws: ``JobFailure`` with the output, after `timeout` or when the process ended first.
    package func line(containing text: String, timeout: Duration = .seconds(30)) throws -> String {
        let deadline = ContinuousClock.now + timeout
        while true {
            if let line = output.first(where: { $0.contains(text) }) { return line }
            let isOver = !process.isRunning
            if isOver || ContinuousClock.now > deadline {
                if isOver { _ = awaitOutput(.now() + 2) }
                if let line = output.first(where: { $0.contains(text) }) { return line }
                throw JobFailure(
                    domain: .system, recovery: .fail,
                    message: "\(name) \(isOver ? "ended" : "took more than \(timeout)") without printing \"\(text)\"",
                    cause: output.suffix(20).joined(separator: "\n"))
            }
            usleep(2_000)
        }
    }
}
