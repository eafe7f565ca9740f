import Foundation
import Testing
import WeirBase
import WeirDataflow
import WeirTransport
import WeirWorker

@Suite struct SlotThreadTests {
    private final class Silence: SlotListener {
        func taskStateChanged(_ task: TaskAttempt, to state: TaskState) {}
        func snapshotTaken(_ task: TaskAttempt, barrier: Barrier, snapshot: TaskSnapshot) {}
        func checkpointDeclined(_ task: TaskAttempt, checkpoint: CheckpointID, reason: String) {}
    }

    private func slot(_ index: Int, pinned: Bool) throws -> SlotThread {
        try SlotThread(
            index: index, pinned: pinned, operators: OperatorTable(), clock: SystemClock(), taskManager: "tm", alignment: WatermarkAlignmentHub(),
            listener: Silence())
    }

    /// The processors that the kernel lets a thread of this process run on, once there is one of that name and they are `expected`.
    private func processors(ofThread name: String, until expected: (String) -> Bool) throws -> String {
        var seen = ""
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            for task in try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task") {
                guard let status = try? String(contentsOfFile: "/proc/self/task/\(task)/status", encoding: .utf8) else { continue }
                let lines = status.split(separator: "\n")
                guard lines.contains("Name:\t\(name)"), let allowed = lines.first(where: { $0.hasPrefix("Cpus_allowed_list:") }) else { continue }
                seen = String(allowed.split(separator: "\t").last ?? "")
                if expected(seen) { return seen }
            }
            usleep(1_000)
        }
        return seen
    }

    @Test func aPinnedSlotStaysOnOneProcessor() throws {
        let thread = try slot(90, pinned: true)
        let seen = try processors(ofThread: "slot-90") { Int($0) != nil }
        thread.stop()
        #expect(Int(seen) != nil, "allowed processors: \(seen)")
    }

    /// The stop must be heard wherever the thread is between looking for work and sleeping: a missed one would hang here.
    @Test(.timeLimit(.minutes(2))) func aStopIsHeardAtAnyMoment() throws {
        var random = SplitMix64(seed: 1)
        let moments = 5_000
        for _ in 0..<moments {
            let thread = try slot(92, pinned: false)
            let wait = ContinuousClock.now + .nanoseconds(Int64.random(in: 0...60_000, using: &random))
            while ContinuousClock.now < wait {}
            thread.stop()
        }
        let left = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").filter { task in
            (try? String(contentsOfFile: "/proc/self/task/\(task)/comm", encoding: .utf8)) == "slot-92\n"
        }
        #expect(left.isEmpty)
    }

    @Test func anUnpinnedSlotRunsWhereTheProcessMay() throws {
        let whole = try processors(ofThread: String(ProcessInfo.processInfo.processName.prefix(15))) { _ in true }
        let thread = try slot(91, pinned: false)
        let seen = try processors(ofThread: "slot-91") { _ in true }
        thread.stop()
        #expect(!seen.isEmpty && (whole.isEmpty || seen == whole))
    }
}
