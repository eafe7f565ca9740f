internal import WeirBase

/// Seeded container telemetry and the plain fold that every run is compared with.
package struct Telemetry: Sendable {
    package struct Reading: Sendable {
        package var containerID: String
        package var timestamp: Int64
        package var temperature: Double
        package var co2: Double

        package var json: String {
            "{\"containerID\":\"\(containerID)\",\"timestamp\":\(timestamp),\"type\":\"telemetry\",\"temperature\":\(temperature),\"co2\":\(co2),\"humidity\":55.5}"
        }
    }

    package struct Window: Hashable, Sendable {
        package var containerID: String
        package var start: Int64
        package init(containerID: String, start: Int64) {
            self.containerID = containerID
            self.start = start
        }
    }

    package struct Totals: Equatable, Sendable {
        package var count = 0
        package var temperatureMinimum = Double.infinity
        package var temperatureMaximum = -Double.infinity
        package var temperatureSum = 0.0
        package var co2Sum = 0.0
        package init() {}
    }

    package static let start: Int64 = 1_700_000_000_000
    package let windowMilliseconds: Int64
    package let containers: Int
    private var random: SplitMix64
    private var now = Telemetry.start
    package private(set) var expected: [Window: Totals] = [:]

    package init(seed: UInt64, containers: Int, windowSeconds: Int) {
        random = SplitMix64(seed: seed)
        self.containers = containers
        windowMilliseconds = Int64(windowSeconds) * 1_000
    }

    /// The next reading: event time moves `step` milliseconds, the reading is up to 2 s out of order. Values are multiples of 1/8, whose sums are
    /// exact in any order.
    package mutating func next(step: Int64) -> Reading {
        now += step
        let reading = Reading(
            containerID: "C-\(Int.random(in: 0..<containers, using: &random))", timestamp: now - Int64.random(in: 0...2_000, using: &random),
            temperature: Double(Int.random(in: -160...240, using: &random)) / 8, co2: 400 + Double(Int.random(in: 0...400, using: &random)) / 8)
        let window = Window(containerID: reading.containerID, start: reading.timestamp - reading.timestamp % windowMilliseconds)
        var totals = expected[window] ?? Totals()
        totals.count += 1
        totals.temperatureMinimum = min(totals.temperatureMinimum, reading.temperature)
        totals.temperatureMaximum = max(totals.temperatureMaximum, reading.temperature)
        totals.temperatureSum += reading.temperature
        totals.co2Sum += reading.co2
        expected[window] = totals
        return reading
    }

    /// A reading far in the future, which closes every window. It belongs to a window of its own that never closes.
    package var closing: Reading { Reading(containerID: "closing", timestamp: now + 3_600_000, temperature: 0, co2: 0) }
}

/// Compares what a job wrote with the plain fold.
package struct TelemetryCheck {
    package private(set) var missing: Set<Telemetry.Window>
    package private(set) var repeated = 0
    package private(set) var problems: [String] = []
    private let expected: [Telemetry.Window: Telemetry.Totals]

    package init(expected: [Telemetry.Window: Telemetry.Totals]) {
        self.expected = expected
        missing = Set(expected.keys)
    }

    /// One summary as it was read. A repeated equal one is what an at-least-once sink may write after a failure.
    package mutating func take(
        containerID: String, windowStart: Int64, count: Int, temperatureMinimum: Double, temperatureMaximum: Double, temperatureMean: Double,
        co2Mean: Double
    ) {
        let window = Telemetry.Window(containerID: containerID, start: windowStart)
        guard let totals = expected[window] else {
            problems.append("\(containerID) at \(windowStart): no such window in the input")
            return
        }
        if missing.remove(window) == nil { repeated += 1 }
        let n = Double(totals.count)
        if count != totals.count || temperatureMinimum != totals.temperatureMinimum || temperatureMaximum != totals.temperatureMaximum
            || temperatureMean != totals.temperatureSum / n || co2Mean != totals.co2Sum / n
        {
            problems.append(
                "\(containerID) at \(windowStart): count \(count), \(totals.count) expected; mean \(temperatureMean), \(totals.temperatureSum / n) expected"
            )
        }
    }
}
