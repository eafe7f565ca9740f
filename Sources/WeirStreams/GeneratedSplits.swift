internal import WeirBase

/// Which indices a subtask has generated, and which come next. A value, without rows.
///
/// Split s has the indices s, s + splits, s + 2·splits, …; subtask t has the splits of which s % parallelism is t. Indices come in rounds, one
/// of each split, so that a subtask's indices rise.
struct GeneratedSplits: Equatable {
    static let splitsMax = 4_096

    let count: UInt64
    let splits: UInt64
    /// The subtask's splits, rising.
    let own: [UInt64]
    /// Where each own split is, while they are at different rounds after a change of parallelism; else nil.
    private var scattered: [UInt64]?
    /// Rounds that are whole, and how many own splits of the next one are done.
    private var round: UInt64 = 0
    private var cursor = 0

    init(count: UInt64?, splits: Int, subtask: Int, parallelism: Int) {
        // Bounded so that no index overflows: at a billion rows a second it lasts for 290 years.
        self.count = min(count ?? .max, 1 << 63)
        self.splits = UInt64(splits)
        own = (0..<splits).filter { $0 % parallelism == subtask }.map(UInt64.init)
    }

    /// How many indices of each own split were generated.
    var positions: [UInt64] { scattered ?? own.indices.map { $0 < cursor ? round + 1 : round } }

    /// Sets the positions from a checkpoint, possibly of another parallelism; splits of other subtasks are ignored.
    ///
    /// - Throws: ``DecodingFailure`` for a position that no such source can have reached.
    mutating func restore(_ entries: [(split: UInt64, position: UInt64)]) throws(DecodingFailure) {
        var positions = self.positions
        for entry in entries {
            guard entry.position <= (1 << 63) / splits + 1 else {
                throw DecodingFailure("position \(entry.position) of split \(entry.split)", offset: 0)
            }
            if let index = own.firstIndex(of: entry.split) { positions[index] = entry.position }
        }
        scattered = positions
        gather()
    }

    /// Writes the next indices, rising; returns how many: less than `limit` only at the end.
    mutating func next(_ indices: UnsafeMutablePointer<UInt64>, limit: Int) -> Int {
        guard !own.isEmpty else { return 0 }
        var written = 0
        while written < limit, scattered != nil {
            guard stepLagging(indices + written) else { return written }
            written += 1
        }
        while written < limit {
            let base = round * splits
            guard base < count else { return written }
            let rest = count - base
            var end = min(own.count, cursor + limit - written)
            while end > cursor, own[end - 1] >= rest { end -= 1 }
            guard end > cursor else { return written }
            for index in cursor..<end { indices[written + index - cursor] = base + own[index] }
            written += end - cursor
            cursor = end
            if cursor == own.count {
                cursor = 0
                round += 1
            }
        }
        return written
    }

    /// One index of the split that is furthest behind.
    private mutating func stepLagging(_ target: UnsafeMutablePointer<UInt64>) -> Bool {
        guard let positions = scattered, let index = positions.indices.min(by: { positions[$0] < positions[$1] }) else { return false }
        let base = positions[index] * splits
        guard base < count, own[index] < count - base else { return false }
        target.pointee = base + own[index]
        scattered?[index] += 1
        gather()
        return true
    }

    /// Back to rounds, if positions are p + 1, …, p + 1, p, …, p.
    private mutating func gather() {
        guard let positions = scattered, let last = positions.last, let first = positions.firstIndex(of: last) else { return }
        guard positions[first...].allSatisfy({ $0 == last }), positions[..<first].allSatisfy({ $0 == last + 1 }) else { return }
        scattered = nil
        round = last
        cursor = first
    }
}
