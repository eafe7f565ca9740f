import Foundation
import Synchronization
import Testing
import WeirBase
import WeirKafkaWire
import WeirTestKit

/// The broker as a process, killed with SIGKILL under load and started again on its data.
///
/// `WEIR_BROKER_KILLS` says how often; `make soak` kills it 50 times.
@Suite struct CrashTests {
    private static let kills = ProcessInfo.processInfo.environment["WEIR_BROKER_KILLS"].flatMap { Int($0) } ?? 4
    private static let partitions: Int32 = 2
    private static let numbersPerTransaction = 20

    private let directory = TestDirectory()

    /// What the three threads share.
    private final class Shared: Sendable {
        let isOver = Atomic<Bool>(false)
        /// Every transaction has ended.
        let isWritten = Atomic<Bool>(false)
        let plain = Deliveries()
        let transactional = Deliveries()
        /// Numbers of transactions whose commit was acknowledged.
        let committed = Mutex<Set<Int>>([])
        let seen = Mutex<[NumberConsumer.Record]>([])
        let failures = Mutex<[String]>([])

        func thread(_ name: String, _ body: @escaping @Sendable (Shared) throws -> Void) -> DispatchSemaphore {
            let done = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                do { try body(self) } catch { self.failures.withLock { $0.append("\(name): \(error)") } }
                done.signal()
            }
            return done
        }
    }

    private func start(port: UInt16) throws -> ChildProcess {
        let broker = try ChildProcess(
            name: "broker", executable: try LocalCluster.binaryDirectory() + "/weir",
            arguments: [
                "broker", "--port", "\(port)", "--data", directory.path + "/data", "--fsync", "--topics", "plain:2,transactions:2", "--property",
                "log.segment.bytes=100000",
            ])
        _ = try broker.line(containing: "broker ready")
        return broker
    }

    @Test func nothingAcknowledgedIsLostNothingIsDoubledAndNothingAbortedIsSeen() throws {
        var broker = try start(port: 0)
        let line = try broker.line(containing: "broker ready on ")
        let bootstrap = try #require(line.split(separator: " ").compactMap { $0.contains(":") ? $0.filter { $0 != "," } : nil }.first)
        let port = try #require(UInt16(bootstrap.split(separator: ":")[1]))
        let shared = Shared()
        let threads = [
            shared.thread("producer") { try Self.producePlain(bootstrap, $0) },
            shared.thread("transactions") { try Self.produceTransactions(bootstrap, $0) },
            shared.thread("consumer") { try Self.consume(bootstrap, $0) },
        ]
        var random = SplitMix64(seed: UInt64(ProcessInfo.processInfo.processIdentifier))
        for _ in 0..<Self.kills {
            // Each life sees work of its own, and ends somewhere in it.
            try wait(shared, plain: Int.random(in: 1...2_000, using: &random), transactions: Int.random(in: 1...4, using: &random))
            usleep(.random(in: 0...20_000, using: &random))
            broker.kill()
            broker = try start(port: port)
        }
        try wait(shared, plain: 100, transactions: 2)
        shared.isOver.store(true, ordering: .releasing)
        for thread in threads { try #require(thread.wait(timeout: .now() + 150) == .success, "a client did not end") }
        #expect(shared.failures.withLock { $0 } == [])
        try checkPlain(bootstrap, shared)
        try checkTransactions(bootstrap, shared)
        broker.terminate()
        #expect(broker.output.count == 1, "\(broker.output.suffix(5))")
    }

    /// Waits until so many more records and transactions were acknowledged.
    private func wait(_ shared: Shared, plain: Int, transactions: Int) throws {
        let target = shared.plain.acknowledgedCount + plain
        let committed = shared.committed.withLock { $0.count } + transactions
        let deadline = ContinuousClock.now + .seconds(60)
        while shared.plain.acknowledgedCount < target || shared.committed.withLock({ $0.count }) < committed {
            let failures = shared.failures.withLock { $0 }
            try #require(failures.isEmpty && ContinuousClock.now < deadline, "the load stands still: \(failures)")
            usleep(1_000)
        }
    }

    // MARK: Load

    private static func producePlain(_ bootstrap: String, _ shared: Shared) throws {
        let producer = try NumberProducer(
            RdKafkaClient.settings(
                bootstrap,
                ["enable.idempotence": "true", "linger.ms": "2", "message.timeout.ms": "120000", "queue.buffering.max.messages": "2000"]),
            shared.plain)
        var number = 0
        while !shared.isOver.load(ordering: .acquiring) {
            try producer.send(number, to: "plain", partition: Int32(number) % partitions)
            number += 1
        }
        try producer.flush()
        let failures = shared.plain.state.withLock { $0.failures }
        guard failures.isEmpty else { throw RdKafkaClient.Failure(description: "\(failures.count) messages failed: \(failures[0])") }
    }

    private static func produceTransactions(_ bootstrap: String, _ shared: Shared) throws {
        let producer = try NumberProducer(
            RdKafkaClient.settings(bootstrap, ["transactional.id": "crash", "linger.ms": "2", "transaction.timeout.ms": "120000"]),
            shared.transactional)
        try producer.initTransactions()
        var transaction = 0
        while !shared.isOver.load(ordering: .acquiring) {
            try producer.beginTransaction()
            for index in 0..<numbersPerTransaction {
                let number = transaction * numbersPerTransaction + index
                try producer.send(number, to: "transactions", partition: Int32(number) % partitions)
            }
            var commits = transaction % 3 != 1
            if commits, case .mustAbort = try producer.commitTransaction() { commits = false }
            if commits {
                let done = transaction
                shared.committed.withLock { _ = $0.insert(done) }
            } else {
                try producer.flush()
                try producer.abortTransaction()
            }
            transaction += 1
        }
        shared.isWritten.store(true, ordering: .releasing)
    }

    /// Reads committed records all the time, across the crashes, until it has seen all of the last one.
    private static func consume(_ bootstrap: String, _ shared: Shared) throws {
        let consumer = try NumberConsumer(
            RdKafkaClient.settings(bootstrap, ["isolation.level": "read_committed", "fetch.wait.max.ms": "50"]), topic: "transactions",
            partitions: partitions)
        var deadline: ContinuousClock.Instant?
        while true {
            if let record = try consumer.poll() {
                shared.seen.withLock { $0.append(record) }
                continue
            }
            guard shared.isWritten.load(ordering: .acquiring) else { continue }
            let wanted = shared.committed.withLock { $0.count } * numbersPerTransaction
            let count = shared.seen.withLock { $0.count }
            if count >= wanted { return }
            let end = deadline ?? .now + .seconds(60)
            deadline = end
            guard ContinuousClock.now < end else { throw RdKafkaClient.Failure(description: "\(count) of \(wanted) committed records") }
        }
    }

    // MARK: Checks

    private func checkPlain(_ bootstrap: String, _ shared: Shared) throws {
        let acknowledged = shared.plain.state.withLock { $0.acknowledged }
        var found: [Int] = []
        for partition in 0..<Self.partitions {
            let numbers = try WireClient(bootstrap).readAll("plain", partition: partition, isolation: .readUncommitted).map(\.number)
            #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 }, "partition \(partition): records doubled or out of order")
            found += numbers
        }
        let lost = acknowledged.subtracting(found)
        #expect(lost.isEmpty, "\(lost.count) acknowledged records lost, such as \(lost.sorted().prefix(5))")
        #expect(found.count == Set(found).count)
        #expect(acknowledged.count > 100 * Self.kills)
    }

    /// What is missing, doubled or should not be there; empty where nothing is.
    private func difference(_ records: [NumberConsumer.Record], _ expected: [Int]) -> String {
        let numbers = Set(records.map(\.number))
        let findings = [
            ("missing", Set(expected).subtracting(numbers).count), ("of aborted transactions", numbers.subtracting(expected).count),
            ("doubled", records.count - numbers.count),
        ]
        return findings.filter { $0.1 != 0 }.map { "\($0.1) \($0.0)" }.joined(separator: ", ")
    }

    private func checkTransactions(_ bootstrap: String, _ shared: Shared) throws {
        let committed = shared.committed.withLock { $0 }
        let expected = committed.flatMap { $0 * Self.numbersPerTransaction..<($0 + 1) * Self.numbersPerTransaction }.sorted()
        let seen = shared.seen.withLock { $0 }
        #expect(difference(seen, expected) == "", "what was seen while it was written")
        var found: [NumberConsumer.Record] = []
        for partition in 0..<Self.partitions {
            found += try WireClient(bootstrap).readAll("transactions", partition: partition, isolation: .readCommitted)
        }
        #expect(difference(found, expected) == "", "what is there at the end")
        for partition in 0..<Self.partitions {
            let offsets = seen.filter { $0.partition == partition }.map(\.offset)
            #expect(zip(offsets, offsets.dropFirst()).allSatisfy { $0 < $1 })
            let numbers = found.filter { $0.partition == partition }.map(\.number)
            #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 < $1 })
        }
    }
}

extension WireClient {
    /// Every record of a partition that holds a number, as a consumer of the isolation level sees them.
    func readAll(_ topic: String, partition: Int32, isolation: IsolationCode) throws -> [NumberConsumer.Record] {
        var records: [NumberConsumer.Record] = []
        var offset: Int64 = 0
        while true {
            let entry = try fetch([.init(topic: topic, partition: partition, offset: offset)], isolation: isolation)[0]
            guard entry.errorCode() == .none else { throw Failure(description: "cannot read \(topic)-\(partition): \(entry.errorCode())") }
            let bytes = entry.bytes("records")
            guard !bytes.isEmpty else { return records }
            var pending = entry.structures("abortedTransactions").map { (id: $0.int64("producerId"), first: $0.int64("firstOffset")) }
            var skipped: Set<Int64> = []
            var position = 0
            while position < bytes.count {
                let header = try RecordBatchHeader(bytes, at: position)
                for transaction in pending where transaction.first <= header.lastOffset { skipped.insert(transaction.id) }
                pending.removeAll { $0.first <= header.lastOffset }
                try RecordBatch.forEachRecord(header, in: bytes, at: position) { (record, recordOffset) throws(DecodingFailure) in
                    guard recordOffset >= offset else { return }
                    if header.isControl {
                        if record.key?.load(Int16.self, at: 2) == 0 { skipped.remove(header.producerID) }
                    } else if !skipped.contains(header.producerID) || !header.isTransactional {
                        guard let number = record.value.flatMap({ Int(String(decoding: $0.array, as: UTF8.self)) }) else {
                            throw DecodingFailure("a record that is no number", offset: position)
                        }
                        records.append(.init(partition: partition, offset: recordOffset, number: number))
                    }
                }
                position += header.totalBytes
                offset = header.lastOffset + 1
            }
        }
    }
}
