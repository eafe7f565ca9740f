internal import Foundation

/// The rows that the test job generates, each from its index alone, and the plain fold that its windows are compared with.
package struct SeededRows: Sendable {
    package struct Row: Sendable, Equatable {
        package var device: Int
        /// Event time, milliseconds since 1970.
        package var timestamp: Int64
        package var value: Int64
    }

    package struct Window: Hashable, Sendable, Comparable, CustomStringConvertible {
        package var device: Int
        package var start: Int64

        package init(device: Int, start: Int64) {
            self.device = device
            self.start = start
        }

        package static func < (left: Window, right: Window) -> Bool { (left.start, left.device) < (right.start, right.device) }
        package var description: String { "device \(device) at \(start)" }
    }

    package struct Totals: Equatable, Sendable {
        package var count: Int64
        package var sum: Int64
        package init(count: Int64 = 0, sum: Int64 = 0) {
            self.count = count
            self.sum = sum
        }
    }

    package static let start: Int64 = 1_700_000_000_000
    /// Event time from one row to the next.
    package static let stepMilliseconds: Int64 = 5
    /// How far behind its place a row's event time may be.
    package static let disorderMilliseconds: UInt64 = 2_000
    package static let windowMilliseconds: Int64 = 10_000

    package let seed: UInt64
    package let devices: Int

    /// - Parameter devices: At least 1.
    package init(seed: UInt64, devices: Int) {
        precondition(devices >= 1, "rows belong to devices")
        self.seed = seed
        self.devices = devices
    }

    package func row(_ index: UInt64) -> Row {
        // The finaliser of SplitMix64: any index gives its row without those before it.
        var bits = seed &+ (index &+ 1) &* 0x9E37_79B9_7F4A_7C15
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        bits ^= bits >> 31
        let late = Int64((bits >> 32) % Self.disorderMilliseconds)
        return Row(
            device: Int(bits % UInt64(devices)), timestamp: Self.start + Int64(index) * Self.stepMilliseconds - late,
            value: Int64(bits >> 48) - 32_768)
    }

    /// Every window of the first `count` rows. O(count).
    package func fold(count: UInt64) -> [Window: Totals] {
        var windows: [Window: Totals] = [:]
        for index in 0..<count {
            let row = row(index)
            let window = Window(device: row.device, start: row.timestamp - row.timestamp % Self.windowMilliseconds)
            windows[window, default: Totals()].count += 1
            windows[window, default: Totals()].sum += row.value
        }
        return windows
    }
}

/// What differs between the windows that a job wrote and a plain fold.
package struct WindowDifferences: Sendable {
    package private(set) var problems: [String] = []
    package private(set) var lines = 0

    /// - Parameter directory: That of the part files of the sink.
    package init(directory: String, expected: [SeededRows.Window: SeededRows.Totals]) throws {
        var text = ""
        for name in try FileManager.default.contentsOfDirectory(atPath: directory).sorted() where name.hasPrefix("part-") {
            text += try String(contentsOfFile: directory + "/" + name, encoding: .utf8)
        }
        self.init(lines: text.split(separator: "\n"), expected: expected)
    }

    /// - Parameter lines: "device start count sum", each window on one line exactly.
    package init(lines: some Sequence<Substring>, expected: [SeededRows.Window: SeededRows.Totals]) {
        var missing = expected
        for line in lines {
            self.lines += 1
            let numbers = line.split(separator: " ").compactMap { Int64($0) }
            guard numbers.count == 4 else {
                problems.append("\"\(line)\" is no window")
                continue
            }
            let window = SeededRows.Window(device: Int(numbers[0]), start: numbers[1])
            guard let wanted = expected[window] else {
                problems.append("\(window): no such window in the input")
                continue
            }
            if missing.removeValue(forKey: window) == nil { problems.append("\(window): written twice") }
            let found = SeededRows.Totals(count: numbers[2], sum: numbers[3])
            if found != wanted { problems.append("\(window): \(found.count) rows and sum \(found.sum), not \(wanted.count) and \(wanted.sum)") }
        }
        for window in missing.keys.sorted() { problems.append("\(window): missing") }
    }
}
