import Synchronization

/// Where the sources of a worker that keep their watermarks together tell how far they are, and learn how far they may go.
///
/// Local sources see each other at once. What the job's other workers say comes with ``setRemote(_:)``, at the pace of whoever calls it.
/// Used from any thread.
package final class WatermarkAlignmentHub: Sendable {
    /// One source subtask in a group.
    package struct Member: Hashable, Sendable {
        package let group: String
        fileprivate let number: Int
    }

    private struct Entry {
        /// `Int64.max` while the source is idle: it holds nobody back.
        var watermark: Int64
        var waker: any Waker
    }

    private struct State {
        var nextNumber = 0
        var groups: [String: [Int: Entry]] = [:]
        var remote: [String: Int64] = [:]

        func local(_ group: String) -> Int64 { groups[group]?.values.map(\.watermark).min() ?? .max }
        func minimum(_ group: String) -> Int64 { min(local(group), remote[group] ?? .max) }
    }

    private let state = Mutex(State())

    package init() {}

    /// - Parameter waker: Called when the group may go on.
    package func join(_ group: String, waker: any Waker) -> Member {
        state.withLock { state in
            state.nextNumber += 1
            // Before it has read anything nobody knows how far behind it is.
            state.groups[group, default: [:]][state.nextNumber] = Entry(watermark: .min, waker: waker)
            return Member(group: group, number: state.nextNumber)
        }
    }

    /// Tells the watermark of a source, `Int64.max` if it is idle, and gives the least of its group.
    package func report(_ member: Member, watermark: Int64) -> Int64 {
        change(member.group) { $0.groups[member.group]?[member.number]?.watermark = watermark }
    }

    package func leave(_ member: Member) {
        _ = change(member.group) { state in
            state.groups[member.group]?[member.number] = nil
            if state.groups[member.group]?.isEmpty == true { state.groups[member.group] = nil }
        }
    }

    /// The least watermark of each group's sources in this process, for others to know. Idle groups are left out.
    package var minima: [String: Int64] {
        state.withLock { state in
            state.groups.keys.reduce(into: [:]) { minima, group in
                let least = state.local(group)
                if least != .max { minima[group] = least }
            }
        }
    }

    /// The least watermark of each group's sources in the job's other processes; a group that is not named has none there.
    package func setRemote(_ minima: [String: Int64]) {
        let changed = state.withLock { state in
            let changed = Set(state.remote.keys).union(minima.keys).filter { state.remote[$0] != minima[$0] }
            state.remote = minima
            return changed.sorted().flatMap { state.groups[$0]?.values.map(\.waker) ?? [] }
        }
        for waker in changed { waker.wake() }
    }

    /// Wakes the group if its least watermark rose.
    private func change(_ group: String, _ body: (inout State) -> Void) -> Int64 {
        let (least, wakers) = state.withLock { state in
            let before = state.minimum(group)
            body(&state)
            let after = state.minimum(group)
            return (after, after > before ? state.groups[group]?.values.map(\.waker) ?? [] : [])
        }
        for waker in wakers { waker.wake() }
        return least
    }
}
