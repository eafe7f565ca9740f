import Logging
import Synchronization
import Testing
import WeirBase

@testable import WeirTransport

let testJob = JobID(high: 1, low: 2)

/// The data exchange of one worker of a test, with what it reported.
final class TestWorker: Sendable {
    let exchange: DataExchange
    let index: UInt32
    let failures = Journal<ExchangeFailure>()
    let log = Journal<String>()

    init(_ index: UInt32, job: JobID = testJob, _ adjust: (inout DataExchangeOptions) -> Void = { _ in }) throws {
        self.index = index
        var options = DataExchangeOptions()
        adjust(&options)
        exchange = try DataExchange(job: job, options: options, logger: quietLogger(log))
    }

    deinit {
        exchange.shutDown()
    }

    var peer: ExchangePeer { ExchangePeer(index: index, worker: WorkerID("w\(index)"), host: "127.0.0.1", port: exchange.port) }

    func begin(_ epoch: UInt32, with workers: [TestWorker]) -> ExchangeEpoch {
        let failures = failures
        return exchange.beginEpoch(Epoch(epoch), worker: index, peers: workers.map(\.peer)) { failures.append($0) }
    }
}

/// Counts wake-ups and lets a thread wait for the next one.
final class TestWaker: Sendable {
    private let count = Atomic<Int>(0)

    var wakes: Int { count.load(ordering: .relaxed) }
    var wake: @Sendable () -> Void { { self.count.add(1, ordering: .relaxed) } }
}

/// Two workers and one channel from the first to the second.
final class OneChannel {
    let a: TestWorker
    let b: TestWorker
    let from: ExchangeEpoch
    let to: ExchangeEpoch
    let output: RemoteOutput
    let input: RemoteInput
    let producer = TestWaker()
    let consumer = TestWaker()

    init(_ adjust: (inout DataExchangeOptions) -> Void = { _ in }) throws {
        a = try TestWorker(0, adjust)
        b = try TestWorker(1, adjust)
        from = a.begin(1, with: [a, b])
        to = b.begin(1, with: [a, b])
        output = from.openOutput(channel: 7, to: 1, wake: producer.wake)
        input = to.openInput(channel: 7, from: 0, wake: consumer.wake)
        to.activate()
        from.activate()
    }

    func send(_ frame: [UInt8]) async -> Bool {
        await eventually { output.trySend(frame) }
    }

    func receive() async -> [UInt8]? {
        var frame: [UInt8]?
        _ = await eventually {
            frame = input.receive()
            return frame != nil
        }
        return frame
    }
}
