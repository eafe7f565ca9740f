import WeirBase
import WeirKafkaWire

@testable import WeirKafkaTransactions

/// What faults a call to the broker meets.
enum Fault: CaseIterable { case none, requestLost, answerLost, coordinatorMoved, concurrentTransactions }

/// One subtask of a sink with the lanes that carry out its effects, one call to the broker at a time.
struct SimulatedSubtask {
    enum Operation {
        case resolve(TransactionResolution, PreparedTransaction)
        case fence(TransactionalID)
        case fenceStrays(StrayFilter)
        case start(Int, ProducerSession?)
        case discard(Int)
        case seal(Int, CommitMarker)
        case commit(Int, PreparedTransaction, TransactionResolution?)
        case abort(Int)

        /// Whether a subtask that was given up may still come to it. It must not begin a session any more: see `isSettled`.
        var isLeftToZombies: Bool {
            switch self {
            case .seal, .commit, .discard: true
            case .resolve, .fence, .fenceStrays, .start, .abort: false
            }
        }
    }

    struct Producer {
        var session: ProducerSession
        var unsent: [Row] = []
    }

    var writer: TransactionalWriter
    /// By lane; -1 is the lane of the recovery.
    var lanes: [Int: [Operation]] = [:]
    var producers: [Int: Producer] = [:]
    var records: UInt64 = 0
    var answers: [UInt64: [SinkState]] = [:]
    var declined: Set<UInt64> = []
    /// How many transactions the broker had seen when it was asked for strays.
    var transactionsListed = 0
    /// Checkpoints that the subtask will hear of: completed or aborted.
    var notices: [(checkpoint: UInt64, isCompleted: Bool)] = []

    init(_ options: TransactionalWriter.Options, restored: [SinkState]) {
        writer = TransactionalWriter(options, restored: restored)
        apply(writer.start())
    }

    mutating func apply(_ effects: [TransactionalWriter.Effect]) {
        for effect in effects {
            switch effect {
            case .resolve(let transaction):
                lanes[-1, default: []].append(.resolve(TransactionResolution(transaction, giveUpAt: Instant(nanoseconds: .max)), transaction))
            case .fence(let id): lanes[-1, default: []].append(.fence(id))
            case .fenceStrays(let filter): lanes[-1, default: []].append(.fenceStrays(filter))
            case .startProducer(let index): lanes[index, default: []].append(.start(index, nil))
            case .discardProducer(let index): lanes[index, default: []].append(.discard(index))
            case .seal(let index, let marker): lanes[index, default: []].append(.seal(index, marker))
            case .commit(let index, let transaction): lanes[index, default: []].append(.commit(index, transaction, nil))
            case .abort(let index): lanes[index, default: []].append(.abort(index))
            case .answer(let checkpoint, let entries): answers[checkpoint] = entries
            case .decline(let checkpoint, _): declined.insert(checkpoint)
            }
        }
    }

    mutating func write(_ row: Row, at time: Int64) {
        if writer.needsBegin {
            writer.begin(at: time)
            records = 0
        }
        guard let current = writer.current else { preconditionFailure("rows are written while the subtask is ready") }
        producers[current]?.unsent.append(row)
        records += 1
    }

    mutating func barrier(_ checkpoint: UInt64) { apply(writer.barrier(checkpoint, records: records)) }

    var busyLanes: [Int] { lanes.filter { !$0.value.isEmpty }.keys.sorted() }

    private mutating func fail(_ reason: String) {
        apply(writer.failed(JobFailure(domain: .external, recovery: .restart, message: reason)))
    }

    /// Sends one of the rows that wait in the current producer, as librdkafka does by itself.
    mutating func sendAhead(_ broker: inout ModelBroker) {
        guard let current = writer.current, producers[current]?.unsent.isEmpty == false else { return }
        send(current, &broker)
    }

    private mutating func send(_ index: Int, _ broker: inout ModelBroker) {
        guard let producer = producers[index], let row = producer.unsent.first else { return }
        guard broker.produce(id(index), producer.session, row) == .none else { return fail("fenced") }
        producers[index]?.unsent.removeFirst()
    }

    func id(_ index: Int) -> TransactionalID {
        TransactionalID(prefix: writer.options.prefix, subtask: writer.options.subtask, index: index)
    }

    /// Makes one call of a lane's first operation.
    mutating func step(_ lane: Int, _ broker: inout ModelBroker, _ fault: Fault) {
        guard let operation = lanes[lane]?.first else { return }
        switch operation {
        case .resolve(var resolution, let transaction):
            if let outcome = advance(&resolution, transaction.id, transaction.session, &broker, fault) {
                finish(lane)
                apply(writer.resolved(transaction, outcome))
            } else {
                lanes[lane]?[0] = .resolve(resolution, transaction)
            }
        case .fence(let id):
            guard fault != .requestLost else { return }
            _ = broker.initialise(id)
            guard fault == .none else { return }  // Asked again: it only fences once more.
            finish(lane)
            apply(writer.fenced(id))
        case .fenceStrays(let filter):
            for id in broker.listOngoing() {
                if let stray = filter.stray(id.description) { _ = broker.initialise(stray) }
            }
            if broker.listsTransactions { transactionsListed = broker.transactions.count }
            finish(lane)
            apply(writer.straysFenced())
        case .start(let index, let session): start(lane, index, session, &broker, fault)
        case .discard(let index):
            finish(lane)
            producers[index] = nil
        case .seal(let index, let marker): seal(lane, index, marker, &broker, fault)
        case .commit(let index, let transaction, let resolution): commit(lane, index, transaction, resolution, &broker, fault)
        case .abort(let index):
            finish(lane)
            if let producer = producers.removeValue(forKey: index) {
                _ = broker.endTransaction(id(index), producer.session, commit: false)
            }
            apply(writer.aborted(index))
        }
    }

    private mutating func finish(_ lane: Int) { _ = lanes[lane]?.removeFirst() }

    private mutating func start(_ lane: Int, _ index: Int, _ session: ProducerSession?, _ broker: inout ModelBroker, _ fault: Fault) {
        guard let session else {
            guard fault != .requestLost else { return }
            let given = broker.initialise(id(index))
            if fault == .none { lanes[lane]?[0] = .start(index, given) }
            return
        }
        guard case .success(let marker) = broker.fetchMarker(id(index), stable: true), fault == .none else { return }
        finish(lane)
        producers[index] = Producer(session: session)
        apply(writer.producerStarted(index, session: session, baseMarker: marker))
    }

    private mutating func seal(_ lane: Int, _ index: Int, _ marker: CommitMarker, _ broker: inout ModelBroker, _ fault: Fault) {
        guard let producer = producers[index] else { return finish(lane) }
        guard fault != .requestLost else { return }
        guard producer.unsent.isEmpty else {
            send(index, &broker)
            if writer.failure != nil { finish(lane) }  // Fenced: it will never be sealed.
            return
        }
        let code = broker.commitMarker(id(index), producer.session, marker)
        guard fault == .none else { return }
        finish(lane)
        if code == .none { apply(writer.sealed(index)) } else { fail("fenced") }
    }

    private mutating func commit(
        _ lane: Int, _ index: Int, _ transaction: PreparedTransaction, _ resolution: TransactionResolution?, _ broker: inout ModelBroker,
        _ fault: Fault
    ) {
        guard var resolution else {
            let producer = producers[index]
            if producer != nil, fault != .requestLost {
                let code = broker.endTransaction(transaction.id, transaction.session, commit: true)
                if code == .none, fault == .none {
                    finish(lane)
                    return apply(writer.committed(index, .committed, keepsProducer: true))
                }
            }
            // Whatever went wrong, the producer cannot be trusted any more.
            producers[index] = nil
            lanes[lane]?[0] = .commit(index, transaction, TransactionResolution(transaction, giveUpAt: Instant(nanoseconds: .max)))
            return
        }
        if let outcome = advance(&resolution, transaction.id, transaction.session, &broker, fault) {
            finish(lane)
            apply(writer.committed(index, outcome, keepsProducer: false))
        } else {
            lanes[lane]?[0] = .commit(index, transaction, resolution)
        }
    }

    private func advance(
        _ resolution: inout TransactionResolution, _ id: TransactionalID, _ session: ProducerSession, _ broker: inout ModelBroker, _ fault: Fault
    ) -> TransactionOutcome? {
        let now = Instant(nanoseconds: 0)
        switch resolution.step {
        case .wait: resolution.handle(.waited, now: now)
        case .done: break
        case .fetchMarker(let stable):
            guard fault == .none else {
                resolution.handle(.unreachable("lost"), now: now)
                break
            }
            switch broker.fetchMarker(id, stable: stable) {
            case .success(let marker): resolution.handle(.marker(marker), now: now)
            case .failure(let code): resolution.handle(.markerFailed(code), now: now)
            }
        case .endTransaction:
            switch fault {
            case .requestLost: resolution.handle(.unreachable("lost"), now: now)
            case .coordinatorMoved: resolution.handle(.ended(.notCoordinator), now: now)
            case .concurrentTransactions: resolution.handle(.ended(.concurrentTransactions), now: now)
            case .answerLost:
                _ = broker.endTransaction(id, session, commit: true)
                resolution.handle(.unreachable("lost"), now: now)
            case .none: resolution.handle(.ended(broker.endTransaction(id, session, commit: true)), now: now)
            }
        }
        if case .done(let outcome) = resolution.step { return outcome }
        return nil
    }
}
