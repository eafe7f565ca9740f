internal import WeirBase
internal import WeirControl
internal import WeirDataflow
package import WeirStorage

/// A partition as the Kafka source keeps it in `kafka.positions`; see proto-docs/kafka-source.md.
struct KafkaPosition: Equatable, Comparable {
    var topic: String
    var partition: Int32
    var next: Int64

    static func < (left: KafkaPosition, right: KafkaPosition) -> Bool { (left.topic, left.partition) < (right.topic, right.partition) }

    static let stateName = "kafka.positions"
    private static let version: UInt8 = 2

    /// Nil for an entry of another version.
    init?(_ entry: [UInt8]) {
        let parsed = try? entry.withUnsafeBytes { bytes throws -> (String, Int32, Int64)? in
            var reader = ByteReader(bytes)
            guard try reader.readU8() == Self.version else { return nil }
            return (try reader.readString(), try reader.readI32(), try reader.readI64())
        }
        guard let fields = parsed ?? nil else { return nil }
        (topic, partition, next) = fields
    }

    /// What stands for an offset that is not known yet, in words.
    var offset: String {
        switch next {
        case -2: "earliest"
        case -3: "not looked up"
        default: "\(next)"
        }
    }
}

extension Rendering {
    // MARK: weir savepoint inspect

    package static func text(_ found: CheckpointInspection, format: TimeFormat) -> String {
        let checkpoint = found.checkpoint
        var lines = [
            "path             \(checkpoint.path)", "kind             \(kind(checkpoint.kind))", "job              \(checkpoint.job)",
            "id               \(checkpoint.id) (epoch \(checkpoint.epoch))",
            "published        \(format.dateAndTime(checkpoint.publishedMilliseconds)), after \(formatElapsed(milliseconds: checkpoint.duration.inMilliseconds))",
            "max parallelism  \(checkpoint.maxParallelism)", "size             \(formatBytes(UInt64(found.bytes)))",
            "files            \(files(checkpoint)), all of them whole",
        ]
        for operation in found.operators {
            lines.append("")
            let name = operation.name == operation.uid ? "" : " (\(oneLine(operation.name)))"
            lines.append("\(oneLine(operation.uid))\(name), parallelism \(operation.parallelism), \(formatBytes(UInt64(operation.bytes)))")
            guard !operation.states.isEmpty else {
                lines.append("  no state")
                continue
            }
            var table = TextTable(
                ("STATE", .left), ("KIND", .left), ("ROWS", .right), ("WINDOWS", .right), ("SIZE", .right), ("KEY GROUPS A SUBTASK", .right),
                ("SCHEMA", .left))
            for state in operation.states { add(state, of: operation, maxParallelism: checkpoint.maxParallelism, to: &table) }
            lines.append(indented(table.text))
            let positions = kafkaPositions(of: operation)
            if !positions.isEmpty {
                var offsets = TextTable(("TOPIC", .left), ("PARTITION", .right), ("NEXT OFFSET", .right))
                for position in positions { offsets.add(position.topic, "\(position.partition)", position.offset) }
                lines.append(indented(offsets.text))
            }
        }
        return lines.joined(separator: "\n")
    }

    private static func add(
        _ state: CheckpointInspection.State, of operation: CheckpointInspection.Operator, maxParallelism: Int, to table: inout TextTable
    ) {
        let size = formatBytes(UInt64(state.bytes))
        switch state.contents {
        case .keyed(let kind, let fingerprint, let schema, let rows, let namespaces):
            let least = maxParallelism / max(1, operation.parallelism)
            let groups = maxParallelism % max(1, operation.parallelism) == 0 ? "\(least)" : "\(least)-\(least + 1)"
            table.add(
                state.name, kind.rawValue, "\(rows)", kind == .windows ? "\(namespaces)" : "-", size, groups, schema ?? hexadecimal(fingerprint))
        case .list(let entries):
            table.add(state.name, "list", "\(entries.count)", "-", size, "-", "-")
        }
    }

    private static func kind(_ kind: CheckpointKind) -> String {
        switch kind {
        case .periodic: "checkpoint"
        case .final: "final checkpoint"
        case .savepoint(_, .continues): "savepoint"
        case .savepoint(_, .stops): "savepoint that the job stopped with"
        case .savepoint(_, .drains): "savepoint that the job was drained for"
        }
    }

    private static func files(_ checkpoint: CompletedCheckpoint) -> Int {
        1 + Set(checkpoint.handles.flatMap(\.files).map(\.path)).count
    }

    private static func kafkaPositions(of operation: CheckpointInspection.Operator) -> [KafkaPosition] {
        operation.states.flatMap { state -> [KafkaPosition] in
            guard state.name == KafkaPosition.stateName, case .list(let entries) = state.contents else { return [] }
            return entries.compactMap { KafkaPosition($0) }
        }.sorted()
    }

    package static func json(_ found: CheckpointInspection) -> JSONValue {
        let checkpoint = found.checkpoint
        return .object([
            "path": .string(checkpoint.path), "kind": .string(kind(checkpoint.kind)), "job": .string("\(checkpoint.job)"),
            "checkpoint": .unsigned(checkpoint.id.rawValue), "epoch": .unsigned(UInt64(checkpoint.epoch.rawValue)),
            "publishedMs": .integer(checkpoint.publishedMilliseconds), "durationMs": .integer(checkpoint.duration.inMilliseconds),
            "maxParallelism": .integer(Int64(checkpoint.maxParallelism)), "bytes": .integer(Int64(found.bytes)),
            "files": .integer(Int64(files(checkpoint))),
            "operators": .array(
                found.operators.map { operation in
                    .object([
                        "uid": .string(operation.uid), "name": .string(operation.name), "id": .string("\(operation.id)"),
                        "parallelism": .integer(Int64(operation.parallelism)), "bytes": .integer(Int64(operation.bytes)),
                        "states": .array(operation.states.map { json($0) }),
                        "kafkaPositions": .array(
                            kafkaPositions(of: operation).map {
                                .object([
                                    "topic": .string($0.topic), "partition": .integer(Int64($0.partition)), "nextOffset": .integer($0.next),
                                ])
                            }),
                    ])
                }),
        ])
    }

    private static func json(_ state: CheckpointInspection.State) -> JSONValue {
        switch state.contents {
        case .keyed(let kind, let fingerprint, let schema, let rows, let namespaces):
            .object([
                "name": .string(state.name), "kind": .string(kind.rawValue), "rows": .unsigned(rows), "windows": .integer(Int64(namespaces)),
                "bytes": .integer(Int64(state.bytes)), "subtasks": .integer(Int64(state.subtasks)),
                "schemaFingerprint": .string(hexadecimal(fingerprint)), "schema": schema.map { .string($0) } ?? .null,
            ])
        case .list(let entries):
            .object([
                "name": .string(state.name), "kind": .string("list"), "entries": .integer(Int64(entries.count)),
                "bytes": .integer(Int64(state.bytes)), "subtasks": .integer(Int64(state.subtasks)),
            ])
        }
    }
}
