package import WeirBase

/// Keyed state of one name as it was at a barrier. Captured on the slot's thread, encoded on another one.
package protocol KeyedStatePart: Sendable {
    /// Writes the whole part. Called off the slot's thread, while the table goes on changing.
    func encode(into writer: inout ByteWriter)

    /// Lends the part piece by piece. What the pieces write, one behind the other, is a whole part, not always that of ``encode(into:)``.
    func forEachPiece(_ body: (StatePiece) -> Void)
}

extension KeyedStatePart {
    package func forEachPiece(_ body: (StatePiece) -> Void) { body(StatePiece(version: nil, bytes: 0) { encode(into: &$0) }) }
}

/// A part that is bytes already.
package struct EncodedStatePart: KeyedStatePart {
    package let bytes: [UInt8]
    package init(_ bytes: [UInt8]) { self.bytes = bytes }
    package func encode(into writer: inout ByteWriter) { writer.writeBytes(bytes) }
}

/// Collects the state of one operator at a barrier.
public final class SnapshotBuilder {
    public let checkpoint: UInt64
    public let isSavepoint: Bool
    package private(set) var operatorState: [String: [[UInt8]]] = [:]
    package private(set) var keyed: [KeyedStateSnapshot] = []
    private var deferred: [String: DeferredState] = [:]

    package init(checkpoint: UInt64, isSavepoint: Bool = false) {
        self.checkpoint = checkpoint
        self.isSavepoint = isSavepoint
    }

    /// Adds entries to a list state. At a restore every entry comes back to some subtask, or to all of them: see ``RestoredState``.
    public func addList(_ name: String, _ entries: [[UInt8]]) { operatorState[name, default: []].append(contentsOf: entries) }

    /// Adds a list state whose entries are known only later; the checkpoint waits for it. Once a name.
    package func addList(_ name: String, _ entries: DeferredState) { deferred[name] = entries }

    /// Adds keyed state that covers the key groups of this subtask.
    package func addKeyed(_ name: String, keyGroups: Range<Int>, _ part: any KeyedStatePart) {
        keyed.append(KeyedStateSnapshot(name: name, keyGroups: keyGroups, part: part))
    }

    package func finish(operatorID: OperatorID) -> OperatorSnapshot {
        OperatorSnapshot(operatorID: operatorID, keyed: keyed, operatorState: operatorState, deferred: deferred)
    }
}

package struct KeyedStateSnapshot: Sendable {
    package let name: String
    /// The key groups of the subtask that wrote it.
    package let keyGroups: Range<Int>
    package let part: any KeyedStatePart

    package init(name: String, keyGroups: Range<Int>, part: any KeyedStatePart) {
        self.name = name
        self.keyGroups = keyGroups
        self.part = part
    }
}

/// The state of one operator of one subtask.
package struct OperatorSnapshot: Sendable {
    package let operatorID: OperatorID
    package let keyed: [KeyedStateSnapshot]
    package let operatorState: [String: [[UInt8]]]
    /// Lists that are still to come, by name.
    package let deferred: [String: DeferredState]

    package init(
        operatorID: OperatorID, keyed: [KeyedStateSnapshot], operatorState: [String: [[UInt8]]], deferred: [String: DeferredState] = [:]
    ) {
        self.operatorID = operatorID
        self.keyed = keyed
        self.operatorState = operatorState
        self.deferred = deferred
    }
}

/// The state of one subtask at a barrier: captured, not yet bytes. ``resolve(_:)`` comes before it is encoded, on any thread.
package struct TaskSnapshot: Sendable {
    package let checkpoint: CheckpointID
    package let operators: [OperatorSnapshot]
    /// From the first barrier of the task's inputs to the last.
    package var alignment = Duration.zero
    /// In which the task stood still for it.
    package var capture = Duration.zero

    package init(checkpoint: CheckpointID, operators: [OperatorSnapshot]) {
        self.checkpoint = checkpoint
        self.operators = operators
    }

    /// With the rows in flight to the task, which become a list state of its first operator.
    func adding(inFlight state: DeferredState) -> TaskSnapshot {
        guard let head = operators.first else { return self }
        let withRows = OperatorSnapshot(
            operatorID: head.operatorID, keyed: head.keyed, operatorState: head.operatorState,
            deferred: head.deferred.merging([ChannelState.listName: state]) { _, new in new })
        var snapshot = TaskSnapshot(checkpoint: checkpoint, operators: [withRows] + operators.dropFirst())
        snapshot.alignment = alignment
        snapshot.capture = capture
        return snapshot
    }
}

/// The state given back to one operator of one subtask.
///
/// Keyed state comes as written, by all former subtasks whose key groups overlap with the reader's: the reader takes the groups that are its
/// own. A list state comes twice: redistributed, each entry to one subtask, and as the union of all subtasks' entries.
public struct RestoredState: Sendable {
    package struct Keyed: Sendable {
        package let name: String
        /// The key groups of the subtask that wrote the bytes.
        package let keyGroups: Range<Int>
        package let bytes: [UInt8]

        package init(name: String, keyGroups: Range<Int>, bytes: [UInt8]) {
            self.name = name
            self.keyGroups = keyGroups
            self.bytes = bytes
        }
    }

    package let keyed: [Keyed]
    package let lists: [String: [[UInt8]]]
    package let unions: [String: [[UInt8]]]
    public let checkpoint: UInt64

    package init(checkpoint: UInt64, keyed: [Keyed] = [], lists: [String: [[UInt8]]] = [:], unions: [String: [[UInt8]]] = [:]) {
        self.checkpoint = checkpoint
        self.keyed = keyed
        self.lists = lists
        self.unions = unions
    }

    /// This subtask's share of a list state; every entry comes to exactly one subtask.
    public func list(_ name: String) -> [[UInt8]] { lists[name] ?? [] }

    /// All entries of a list state, of all subtasks.
    public func union(_ name: String) -> [[UInt8]] { unions[name] ?? [] }
}
