/// The clock of idleness: it stands still while rows of the source do not get on, because then it is not the partitions that are silent.
struct KafkaSourceClock {
    /// A longer pause between two calls that should follow at once is other work of the slot, which is back pressure by another name.
    private static let pauseNanosecondsMax: Int64 = 10_000_000

    /// Nanoseconds from an arbitrary start.
    private(set) var now: Int64 = 0
    private var last: (time: Int64, backPressured: Int)?
    /// Whether the last call asked to be called again at once.
    var wantsMore = false

    /// - Parameters:
    ///   - time: Monotonic nanoseconds.
    ///   - backPressured: Nanoseconds that the task could not go on since it was deployed.
    mutating func advance(to time: Int64, backPressured: Int) {
        if let last {
            let passed = max(0, time &- last.time &- Int64(backPressured &- last.backPressured))
            now &+= wantsMore ? min(passed, Self.pauseNanosecondsMax) : passed
        }
        last = (time, backPressured)
    }
}
