/// Names a job for as long as its checkpoints live: 128 random bits, written as 32 hexadecimal digits.
public struct JobID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Parses 32 hexadecimal digits, as ``description`` prints them; nil for anything else.
    package init?(_ hex: String) {
        let digits = Array(hex.utf8)
        guard digits.count == 32, let high = Self.parse(digits[0..<16]), let low = Self.parse(digits[16..<32]) else { return nil }
        self.init(high: high, low: low)
    }

    private static func parse(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for digit in digits {
            switch digit {
            case 0x30...0x39: value = value << 4 | UInt64(digit - 0x30)
            case 0x61...0x66: value = value << 4 | UInt64(digit - 0x61 + 10)
            case 0x41...0x46: value = value << 4 | UInt64(digit - 0x41 + 10)
            default: return nil
            }
        }
        return value
    }

    public var description: String { hexadecimal(high) + hexadecimal(low) }

    public static func < (left: JobID, right: JobID) -> Bool { (left.high, left.low) < (right.high, right.low) }
}

/// Sixteen lowercase hexadecimal digits.
package func hexadecimal(_ value: UInt64) -> String {
    let text = String(value, radix: 16)
    return String(repeating: "0", count: 16 - text.utf8.count) + text
}

/// A vertex of a job graph: one chain of operators.
package struct VertexID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: Int32
    package init(_ rawValue: Int32) { self.rawValue = rawValue }
    package var description: String { "\(rawValue)" }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A checkpoint of a job. Ids rise by one a trigger and are never used again, also across restarts.
package struct CheckpointID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package var description: String { "\(rawValue)" }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// The job-wide execution attempt: every restart of a job redeploys all of its tasks under the next epoch.
///
/// Messages name it, and what comes from another epoch is dropped: this is the fence between attempts.
package struct Epoch: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package var description: String { "\(rawValue)" }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A TaskManager, by the resource id it registered with.
package struct TaskManagerID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String
    package init(_ rawValue: String) { self.rawValue = rawValue }
    package var description: String { rawValue }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// One spawned job worker; a worker spawned anew gets a new id.
package struct WorkerID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: String
    package init(_ rawValue: String) { self.rawValue = rawValue }
    package var description: String { rawValue }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// An operator across versions of a job: the hash of its uid. State is matched by it.
package struct OperatorID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The id of the operator with this uid. Savepoints depend on it: never change the hash.
    package init(uid: String) { self.rawValue = KeyHash.hash(uid) }
    package var description: String { hexadecimal(rawValue) }
    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
}

/// A task within an epoch: one parallel instance of a vertex.
package struct SubtaskID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let vertex: VertexID
    /// From 0 to the vertex's parallelism - 1.
    package let index: Int32
    package init(vertex: VertexID, index: Int32) {
        self.vertex = vertex
        self.index = index
    }
    package var description: String { "\(vertex)-\(index)" }
    package static func < (left: Self, right: Self) -> Bool { (left.vertex, left.index) < (right.vertex, right.index) }
}
