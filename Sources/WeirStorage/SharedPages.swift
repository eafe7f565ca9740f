internal import Synchronization
package import WeirBase

/// Names a page of keyed state within one execution attempt of a task.
package struct PageKey: Hashable, Sendable {
    package var operatorID: OperatorID
    package var state: String
    package var version: UInt64

    package init(operatorID: OperatorID, state: String, version: UInt64) {
        self.operatorID = operatorID
        self.state = state
        self.version = version
    }
}

/// Where a page lies: a piece of the payload of a file.
package struct PageLocation: Hashable, Sendable {
    package var file: StoredState
    package var offset: UInt64
    package var bytes: UInt32
    package var crc: UInt32

    package init(file: StoredState, offset: UInt64, bytes: UInt32, crc: UInt32) {
        self.file = file
        self.offset = offset
        self.bytes = bytes
        self.crc = crc
    }
}

/// Where the pages of one task lie that a checkpoint may refer to instead of writing them again.
///
/// Only the latest checkpoint that is known to be complete counts: the JobManager keeps its files until a newer one is. A checkpoint that was
/// aborted, or of which nothing was heard, is never built on.
package final class SharedPages: Sendable {
    private struct State {
        var latest: UInt64 = 0
        var confirmed: [PageKey: PageLocation] = [:]
        var unconfirmed: [UInt64: [PageKey: PageLocation]] = [:]
    }
    private let state = Mutex(State())

    package init() {}

    /// Files that a checkpoint refers to, at most: bounds what a restore has to open.
    package static let filesMax = 16
    /// How many are left once there would be more.
    private static let filesKept = 8
    /// A file less than half of which is still in use is given up, so that files hold at most twice what they are kept for.
    private static let usedShareMin = 0.5

    package var confirmed: [PageKey: PageLocation] { state.withLock { $0.confirmed } }

    /// A checkpoint was written, with its pages where they are told.
    package func wrote(_ checkpoint: UInt64, _ pages: [PageKey: PageLocation]) { state.withLock { $0.unconfirmed[checkpoint] = pages } }

    package func completed(_ checkpoint: UInt64) {
        state.withLock { state in
            guard checkpoint > state.latest, let pages = state.unconfirmed[checkpoint] else { return }
            state.latest = checkpoint
            state.confirmed = pages
            state.unconfirmed = state.unconfirmed.filter { $0.key > checkpoint }
        }
    }

    package func aborted(_ checkpoint: UInt64) { state.withLock { _ = $0.unconfirmed.removeValue(forKey: checkpoint) } }

    /// The files that the next checkpoint should not refer to any more, though some of its pages lie there: it writes these anew. So the files
    /// behind a checkpoint stay few and in use, and each page is rewritten seldom.
    ///
    /// - Parameter usedBytes: By file, of the pages that the checkpoint could refer to.
    package static func outworn(_ usedBytes: [StoredState: Int]) -> Set<StoredState> {
        var outworn = Set(usedBytes.filter { Double($0.value) < usedShareMin * Double($0.key.bytes) }.keys)
        let rest = usedBytes.filter { !outworn.contains($0.key) }
        // One more comes with the checkpoint itself.
        guard rest.count >= filesMax else { return outworn }
        let byUse = rest.sorted { ($0.value, $0.key.path) > ($1.value, $1.key.path) }
        outworn.formUnion(byUse.dropFirst(filesKept).map(\.key))
        return outworn
    }
}
