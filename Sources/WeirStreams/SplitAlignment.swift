/// Which splits of a source are too far ahead of their group to be read. A value without I/O.
public struct SplitAlignment: Sendable {
    /// What to do about splits, by their numbers.
    public struct Decision: Equatable, Sendable {
        /// Those that are read and must not be any more.
        public var pause: [Int] = []
        /// Those that are paused and may be read again.
        public var resume: [Int] = []
        public init(pause: [Int] = [], resume: [Int] = []) {
            self.pause = pause
            self.resume = resume
        }
    }

    private let driftMilliseconds: Int64
    private var paused: Set<Int> = []

    /// All splits may be read at first.
    public init(_ alignment: WatermarkAlignment) { driftMilliseconds = milliseconds(roundingUp: alignment.maxDrift) }

    /// Whether a split is too far ahead, as of the last decision.
    public func isPaused(_ split: Int) -> Bool { paused.contains(split) }
    /// Whether any split is.
    public var isAnyPaused: Bool { !paused.isEmpty }

    /// - Parameters:
    ///   - watermarks: Of the splits that are being read or paused, by their numbers; `Int64.min` before the first row.
    ///   - least: The least watermark of the group, `Int64.max` if all of it is idle.
    public mutating func decide(_ watermarks: [(split: Int, watermark: Int64)], least: Int64) -> Decision {
        let (sum, overflow) = least.addingReportingOverflow(driftMilliseconds)
        let limit = overflow ? Int64.max : sum
        var decision = Decision()
        for (split, watermark) in watermarks {
            if watermark > limit {
                if paused.insert(split).inserted { decision.pause.append(split) }
            } else if paused.remove(split) != nil {
                decision.resume.append(split)
            }
        }
        return decision
    }

    /// The split is read no more.
    public mutating func forget(_ split: Int) { paused.remove(split) }
}

/// Keeps sources together in event time: splits that are ahead are not read until the others have come near.
public struct WatermarkAlignment: Sendable, Equatable {
    /// Sources of one job with the same group wait for each other.
    public var group: String
    /// How far a split's watermark may be ahead of the least of the group.
    public var maxDrift: Duration

    public init(group: String, maxDrift: Duration) {
        self.group = group
        self.maxDrift = maxDrift
    }
}
