import Glibc
package import WeirBase

/// The system's clocks: CLOCK_MONOTONIC and CLOCK_REALTIME.
package struct SystemClock: WeirClock {
    package init() {}

    package var now: Instant { Instant(nanoseconds: Self.read(CLOCK_MONOTONIC)) }
    package var wallTime: WallTime { WallTime(milliseconds: Self.read(CLOCK_REALTIME) / 1_000_000) }

    private static func read(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
