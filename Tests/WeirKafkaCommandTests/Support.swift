import Foundation
import WeirBase
import WeirBroker
import WeirControl
import WeirDataflow
import WeirKafkaTransactions
import WeirKafkaWire
import WeirStorage
import WeirTransport
import WeirWorker

/// The embedded broker in this process, with the topic "out" of two partitions.
final class TestBroker: Sendable {
    let broker: Broker
    let bootstrap: String

    init() throws {
        var options = BrokerOptions()
        options.topics = [.init(name: "out", partitions: 2)]
        broker = try Broker(options: options)
        try broker.start()
        bootstrap = broker.bootstrap
    }

    deinit { broker.stop() }

    func client() throws -> TransactionClient { try TransactionClient(bootstrap: bootstrap) }

    /// Begins a transaction as a sink's producer does, and says what a checkpoint would keep of it.
    ///
    /// - Parameter prepared: Whether its marker is in it.
    func open(_ id: TransactionalID, checkpoint: UInt64, partitions: [Int32] = [0], prepared: Bool = true) throws -> PreparedTransaction {
        let client = try client()
        defer { client.close() }
        let session = try client.initialise(id, timeoutMilliseconds: 60_000, patience()).get()
        let connection = try KafkaConnection(try KafkaAddress.list(bootstrap)[0], patience())
        defer { connection.close() }
        var add = KafkaStruct(requestOf: .addPartitionsToTxn)
        add["transactionalId"] = .string(id.description)
        add["producerId"] = .int(session.producerID)
        add["producerEpoch"] = .int(session.epoch)
        add.append(to: "topics") {
            $0["name"] = .string("out")
            $0["partitions"] = .ints(partitions)
        }
        _ = try connection.send(.addPartitionsToTxn, atMost: 3, add, patience())
        let transaction = PreparedTransaction(
            id: id, session: session, checkpoint: checkpoint, markerTopic: "out", baseMarker: nil,
            begunAt: SystemClock().wallTime.milliseconds, timeoutMilliseconds: 60_000, records: 3)
        if prepared { try writeMarker(transaction, connection) }
        return transaction
    }

    private func writeMarker(_ transaction: PreparedTransaction, _ connection: KafkaConnection) throws {
        var add = KafkaStruct(requestOf: .addOffsetsToTxn)
        add["transactionalId"] = .string(transaction.id.description)
        add["producerId"] = .int(transaction.session.producerID)
        add["producerEpoch"] = .int(transaction.session.epoch)
        add["groupId"] = .string(transaction.id.markerGroup)
        _ = try connection.send(.addOffsetsToTxn, atMost: 3, add, patience())
        var commit = KafkaStruct(requestOf: .txnOffsetCommit)
        commit["transactionalId"] = .string(transaction.id.description)
        commit["groupId"] = .string(transaction.id.markerGroup)
        commit["producerId"] = .int(transaction.session.producerID)
        commit["producerEpoch"] = .int(transaction.session.epoch)
        commit["generationId"] = -1
        commit.append(to: "topics") { topic in
            topic["name"] = .string("out")
            topic.append(to: "partitions") { partition in
                partition["partitionIndex"] = 0
                partition["committedOffset"] = .int(Int64(transaction.checkpoint))
                partition["committedLeaderEpoch"] = -1
                partition["committedMetadata"] = .string(transaction.marker.metadata)
            }
        }
        _ = try connection.send(.txnOffsetCommit, atMost: 3, commit, patience())
    }

    func state(_ id: TransactionalID) throws -> String {
        let client = try client()
        defer { client.close() }
        return try client.describe(id.description, patience()).get().state
    }

    func marker(_ id: TransactionalID) throws -> TransactionResolution.Answer {
        let client = try client()
        defer { client.close() }
        return try client.fetchMarker(id, topic: "out", stable: true, patience())
    }
}

func patience(seconds: Int64 = 10) -> KafkaPatience {
    let clock = SystemClock()
    return KafkaPatience(clock: clock, deadline: clock.now.advanced(by: .seconds(seconds)))
}

/// A directory that is gone with this value.
final class TestDirectory {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "weir-kafka-command-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Writes a checkpoint as a job does: the first subtask's state in the metadata, the others' in files.
///
/// - Parameter subtasks: The entries of each.
/// - Returns: Its directory.
func writeCheckpoint(_ number: UInt64, of job: JobID, below directory: String, subtasks: [[SinkState]]) throws -> String {
    let storage = CheckpointStorage(directory: directory, job: job)
    let operatorID = OperatorID(uid: "sink")
    var handles: [StateHandle] = []
    for (index, entries) in subtasks.enumerated() {
        let snapshot = OperatorSnapshot(operatorID: operatorID, keyed: [], operatorState: [SinkState.listName: entries.map { $0.encode() }])
        let bytes = try TaskStateCodec.encode(TaskSnapshot(checkpoint: CheckpointID(number), operators: [snapshot]))
        let subtask = SubtaskID(vertex: VertexID(0), index: Int32(index))
        guard index > 0 else {
            handles.append(StateHandle(subtask: subtask, content: .inline(bytes)))
            continue
        }
        let file = try storage.writeState(CheckpointID(number), subtask: subtask, epoch: Epoch(1), payload: bytes)
        handles.append(StateHandle(subtask: subtask, content: .file(StateFile(path: file.path, lengthBytes: file.bytes, crc32c: file.crc))))
    }
    let vertex = CheckpointVertex(vertex: VertexID(0), operators: [CheckpointOperator(uid: "sink")], parallelism: subtasks.count)
    let checkpoint = CompletedCheckpoint(
        job: job, id: CheckpointID(number), epoch: Epoch(1), maxParallelism: 128, vertices: [vertex], handles: handles)
    try storage.writeMetadata(CheckpointID(number), payload: CheckpointMetadata.encode(checkpoint))
    return storage.directory(of: CheckpointID(number))
}
