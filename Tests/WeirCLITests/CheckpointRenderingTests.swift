import Testing
import WeirWire

@testable import WeirCLI

/// 2026-11-23 10:00:00 UTC.
private let noon: Int64 = 1_795_428_000_000

private func subtask(_ vertex: Int32, _ index: Int32) -> WireSubtask {
    var subtask = WireSubtask()
    subtask.vertex = vertex
    subtask.index = index
    return subtask
}

private var history: WireCheckpointHistory {
    var history = WireCheckpointHistory()
    history.job = "0123456789abcdef0123456789abcdef"
    history.name = "Telemetry"
    history.stats.completed = 1
    history.stats.inProgress = 1
    history.vertices = [(Int32(0), "source", UInt32(1)), (1, "sink", 2)].map { id, name, parallelism in
        var vertex = WireVertexInfo()
        vertex.vertex = id
        vertex.name = name
        vertex.parallelism = parallelism
        return vertex
    }
    var done = WireCheckpointInfo()
    done.checkpoint = 4
    done.kind = .savepoint
    done.state = .completed
    done.triggeredMs = noon
    done.durationMs = 350
    done.stateBytes = 2_048
    done.acknowledged = 3
    done.tasks = 3
    done.syncMsMax = 0.25
    done.path = "/saved"
    var running = WireCheckpointInfo()
    running.checkpoint = 5
    running.kind = .periodic
    running.state = .inProgress
    running.triggeredMs = noon + 10_000
    running.durationMs = 4_200
    running.acknowledged = 1
    running.tasks = 3
    running.holders = [subtask(1, 1)]
    var detail = WireCheckpointTask()
    detail.subtask = subtask(0, 0)
    detail.acknowledgedMs = 12
    detail.syncMs = 1
    running.details = [detail]
    history.stats.recent = [done, running]
    return history
}

@Suite struct CheckpointRenderingTests {
    @Test func theLatestComesFirstAndTheHolderIsNamed() {
        #expect(
            Rendering.text(history, detail: nil, last: 20, format: .utc) == """
                job          0123456789abcdef0123456789abcdef (Telemetry)
                checkpoints  1 completed, 0 failed, 1 in progress

                ID  KIND       STATE        TRIGGERED            DURATION     SIZE  ACK  ALIGN    SYNC  ASYNC  PATH OR REASON
                 5  periodic   IN_PROGRESS  2026-11-23 10:00:10     4.2 s      0 B  1/3   0 ms    0 ms   0 ms
                 4  savepoint  COMPLETED    2026-11-23 10:00:00    350 ms  2.0 KiB  3/3   0 ms  0.3 ms   0 ms  /saved

                checkpoint 5, IN_PROGRESS: the barrier is held by sink (2/2)
                SUBTASK       ACKNOWLEDGED AFTER  ALIGN    SYNC  ASYNC  SIZE  SHARED FILES
                source (1/1)               12 ms   0 ms  1.0 ms   0 ms   0 B             0
                """)
    }

    @Test func oneAndASingleLineCanBeAskedFor() {
        let text = Rendering.text(history, detail: 4, last: 1, format: .utc)
        #expect(!text.contains("savepoint ") && text.hasSuffix("checkpoint 4, COMPLETED"))
    }

    @Test func programsGetAllOfIt() {
        let line = Rendering.json(history).line
        #expect(line.contains(#""holders":[{"vertex":1,"index":1}]"#) && line.contains(#""syncMsMax":0.25"#))
    }

    @Test func kafkaPositionsAreReadAndOtherVersionsLeft() {
        var entry: [UInt8] = [2, 3] + Array("abc".utf8) + [7, 0, 0, 0] + [42, 0, 0, 0, 0, 0, 0, 0]
        entry += [UInt8](repeating: 0, count: 17)
        let position = KafkaPosition(entry)
        #expect(position?.topic == "abc" && position?.partition == 7 && position?.offset == "42")
        #expect(KafkaPosition([1] + entry.dropFirst()) == nil)
        #expect(KafkaPosition([2, 200]) == nil)
        entry.replaceSubrange(9..<17, with: withUnsafeBytes(of: Int64(-2).littleEndian) { Array($0) })
        #expect(KafkaPosition(entry)?.offset == "earliest")
    }
}
