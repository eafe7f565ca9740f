import Foundation
import Synchronization
import WeirBase
import WeirTestKit

/// Writes addends from a thread of its own, at a steady rate, until it is told to stop.
final class Feeder: Sendable {
    private struct State {
        var written = 0
        var isStopped = false
        var isDone = false
        var failure: JobFailure?
    }

    /// Clients that find their broker again soon, whatever was done to it.
    static let properties = ["reconnect.backoff.ms": "20", "reconnect.backoff.max.ms": "100", "log_level": "2"]

    private let state = Mutex(State())

    /// - Parameters:
    ///   - keys: How many keys the addends are of, in turn.
    ///   - seed: The values follow from it.
    init(bootstrap: String, topic: String, keys: Int, perSecond: Int, seed: UInt64) {
        Thread.detachNewThread { [self] in
            do throws(JobFailure) {
                let properties = Self.properties.merging(["enable.idempotence": "true"]) { $1 }
                let writer = try TopicWriter(bootstrap: bootstrap, topic: topic, properties: properties)
                var random = SplitMix64(seed: seed)
                let begun = ContinuousClock.now
                var index = 0
                while !state.withLock({ $0.isStopped }) {
                    let value = Int64(random.next() % 1_000)
                    try writer.write(key: "k\(index % keys)", value: "{\"key\":\"k\(index % keys)\",\"value\":\(value)}", timestamp: Self.now)
                    index += 1
                    state.withLock { $0.written = index }
                    let due = begun + .microseconds(index * 1_000_000 / perSecond)
                    let early = due - .now
                    if early > .milliseconds(2) { usleep(UInt32(clamping: early.inNanoseconds / 1_000)) }
                }
                try writer.flush()
                state.withLock { $0.isDone = true }
            } catch {
                state.withLock {
                    $0.failure = error
                    $0.isDone = true
                }
            }
        }
    }

    private static var now: Int64 { Int64(Date().timeIntervalSince1970 * 1_000) }

    /// The addends that were handed to the client so far.
    var written: Int { state.withLock { $0.written } }

    /// Returns once the broker has all of them.
    func stop() throws {
        state.withLock { $0.isStopped = true }
        while !state.withLock({ $0.isDone }) { usleep(1_000) }
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }
}

/// What a reader of the topic of totals has seen.
struct SeenTotals {
    struct Total: Equatable {
        var count: Int64
        var sum: Int64
    }

    /// By key, in the order of the topic.
    private(set) var totals: [String: [Total]] = [:]
    private(set) var rows = 0
    /// Lines that are no totals.
    private(set) var foreign: [String] = []
    private var highest: [String: Int64] = [:]

    /// How many addends are in what was seen.
    var covered: Int { highest.values.reduce(0) { $0 + Int($1) } }

    mutating func take(_ bytes: [UInt8]) {
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ")
        guard words.count == 3, let count = Int64(words[1]), let sum = Int64(words[2]) else { return foreign.append("\(words)") }
        let key = String(words[0])
        totals[key, default: []].append(Total(count: count, sum: sum))
        highest[key] = max(highest[key] ?? 0, count)
        rows += 1
    }

    /// The first places where a key's totals do not follow each other, one addend at a time.
    var gapsAndRepetitions: [String] {
        totals.sorted { $0.key < $1.key }.compactMap { key, totals in
            for (index, total) in totals.enumerated() where total.count != Int64(index + 1) {
                let before = index == 0 ? "nothing" : "total \(totals[index - 1].count)"
                return "\(key): total \(total.count) comes behind \(before), of \(totals.count)"
            }
            return nil
        }
    }

    /// What differs from the totals that a plain fold of the input gives.
    func differences(from expected: [String: [Total]]) -> [String] {
        var problems = foreign.prefix(3).map { "no total: \($0)" }
        for key in Set(expected.keys).union(totals.keys).sorted() {
            let (seen, wanted) = (totals[key] ?? [], expected[key] ?? [])
            guard seen != wanted else { continue }
            let place = zip(seen, wanted).enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? min(seen.count, wanted.count)
            let (found, instead) = (seen.dropFirst(place).first, wanted.dropFirst(place).first)
            problems.append(
                "\(key): at place \(place) of \(wanted.count) stands \(found.map { "\($0.count) \($0.sum)" } ?? "nothing") instead of"
                    + " \(instead.map { "\($0.count) \($0.sum)" } ?? "nothing"); \(seen.count) were seen")
        }
        return problems
    }

    /// What is missing or was never to be, where totals may come again.
    func losses(from expected: [String: [Total]]) -> [String] {
        var problems = foreign.prefix(3).map { "no total: \($0)" }
        for key in Set(expected.keys).union(totals.keys).sorted() {
            let wanted = expected[key] ?? []
            var reached: Int64 = 0
            for total in totals[key] ?? [] {
                guard total.count >= 1, total.count <= Int64(wanted.count), wanted[Int(total.count) - 1] == total else {
                    problems.append("\(key): \(total.count) \(total.sum) was never to be")
                    break
                }
                // A repetition begins anywhere, but goes on without a gap: order a key is kept.
                guard total.count <= reached + 1 else {
                    problems.append("\(key): total \(total.count) comes behind total \(reached)")
                    break
                }
                reached = max(reached, total.count)
            }
            if reached != Int64(wanted.count) { problems.append("\(key): \(wanted.count - Int(reached)) of \(wanted.count) are missing") }
        }
        return problems
    }
}
