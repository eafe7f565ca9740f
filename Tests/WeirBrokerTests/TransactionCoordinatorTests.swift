import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// A transaction coordinator whose markers are written when the test says so.
private final class Bench {
    var coordinator: TransactionCoordinator
    var time: Int64 = 1_000_000
    private(set) var records: [CoordinatorRecord] = []
    private(set) var owed: [TransactionMarkers] = []
    private(set) var replies: [RequestToken: TransactionCoordinator.Reply] = [:]
    private var lastRequest: UInt64 = 0
    /// Whether markers are written at once.
    var writesMarkers = true

    init(_ change: (inout TransactionOptions) -> Void = { _ in }) {
        var options = TransactionOptions()
        change(&options)
        coordinator = TransactionCoordinator(options: options)
    }

    var now: WallTime { WallTime(milliseconds: time) }

    func run(_ effects: [TransactionCoordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .persist(let record): records.append(record)
            case .reply(let request, let reply):
                #expect(replies[request] == nil, "\(request) is answered once")
                replies[request] = reply
            case .writeMarkers(let markers):
                owed.append(markers)
                if writesMarkers { writeMarkers() }
            case .log: break
            }
        }
    }

    func writeMarkers() {
        let markers = owed
        owed = []
        for marker in markers { run(coordinator.markersWritten(marker, now: now)) }
    }

    func send(_ event: TransactionCoordinator.Event) -> RequestToken {
        lastRequest += 1
        run(coordinator.handle(event, request: RequestToken(lastRequest), now: now))
        return RequestToken(lastRequest)
    }

    func initialize(_ id: String? = "T", timeout: Int32 = 60_000, expected: ProducerIdentity? = nil) -> TransactionCoordinator.Reply? {
        replies[send(.initProducerID(transactionalID: id, timeoutMilliseconds: timeout, expected: expected))]
    }

    func producer(_ id: String? = "T", expected: ProducerIdentity? = nil) throws -> ProducerIdentity {
        guard case .producer(.none, let identity)? = initialize(id, expected: expected) else { throw DecodingFailure("no producer", offset: 0) }
        return identity
    }

    func add(_ producer: ProducerIdentity, _ partitions: [TopicPartition] = [partition("t")], id: String = "T") -> KafkaErrorCode? {
        code(send(.addPartitions(transactionalID: id, producer, partitions)))
    }

    func addGroup(_ producer: ProducerIdentity, _ group: String, id: String = "T") -> KafkaErrorCode? {
        code(send(.addGroup(transactionalID: id, producer, group: group)))
    }

    func end(_ producer: ProducerIdentity, commit: Bool, id: String = "T") -> KafkaErrorCode? {
        code(send(.end(transactionalID: id, producer, commit: commit)))
    }

    func code(_ request: RequestToken) -> KafkaErrorCode? {
        guard case .done(let error)? = replies[request] else { return nil }
        return error
    }

    var state: TransactionState? { coordinator.transactions["T"]?.state }
}

private func next(_ producer: ProducerIdentity, _ epochs: Int16 = 1) -> ProducerIdentity {
    ProducerIdentity(id: producer.id, epoch: producer.epoch + epochs)
}

@Suite struct TransactionCoordinatorTests {
    @Test func aTransactionGoesFromItsFirstPartitionToItsMarkers() throws {
        let bench = Bench()
        let producer = try bench.producer()
        #expect(producer.epoch == 0)
        #expect(bench.add(producer, [partition("t", 1), partition("t", 0)]) == KafkaErrorCode.none)
        #expect(bench.addGroup(producer, "g") == KafkaErrorCode.none)
        #expect(bench.state == .ongoing)

        bench.writesMarkers = false
        let request = bench.send(.end(transactionalID: "T", producer, commit: true))
        #expect(bench.state == .prepareCommit)
        #expect(bench.code(request) == nil, "not before the records show")
        let markers = try #require(bench.owed.first)
        #expect(markers.partitions == [partition("t", 0), partition("t", 1)])
        #expect(markers.groups == ["g"])
        #expect(markers.producer == producer)
        #expect(markers.commit)
        guard case .transaction(let stored)? = bench.records.last else { return #expect(Bool(false), "prepared before the markers") }
        #expect(stored.state == .prepareCommit)

        bench.writeMarkers()
        #expect(bench.code(request) == KafkaErrorCode.none)
        #expect(bench.state == .completeCommit)
        #expect(bench.coordinator.transactions["T"]?.partitions == [])
    }

    @Test func endingAgainTheSameWayIsNoError() throws {
        let bench = Bench()
        let producer = try bench.producer()
        _ = bench.add(producer)
        #expect(bench.end(producer, commit: true) == KafkaErrorCode.none)
        #expect(bench.end(producer, commit: true) == KafkaErrorCode.none)
        #expect(bench.end(producer, commit: false) == .invalidTxnState)
        _ = bench.add(producer)
        #expect(bench.end(producer, commit: false) == KafkaErrorCode.none)
        #expect(bench.end(producer, commit: false) == KafkaErrorCode.none)
        #expect(bench.end(producer, commit: true) == .invalidTxnState)
    }

    @Test func anEmptyTransactionCannotBeEnded() throws {
        let bench = Bench()
        let producer = try bench.producer()
        #expect(bench.end(producer, commit: true) == .invalidTxnState)
        #expect(bench.end(producer, commit: false) == .invalidTxnState)
    }

    @Test func nothingHappensUntilTheMarkersAreWritten() throws {
        let bench = Bench()
        let producer = try bench.producer()
        _ = bench.add(producer)
        bench.writesMarkers = false
        _ = bench.end(producer, commit: true)
        #expect(bench.end(producer, commit: true) == .concurrentTransactions)
        #expect(bench.end(producer, commit: false) == .invalidTxnState)
        #expect(bench.add(producer) == .concurrentTransactions)
        #expect(bench.addGroup(producer, "g") == .concurrentTransactions)
        #expect(bench.initialize() == .producer(.concurrentTransactions, .none))
        #expect(bench.coordinator.verify("T", producer, partition("t")) == .concurrentTransactions)
        bench.writeMarkers()
        #expect(bench.add(producer) == KafkaErrorCode.none)
    }

    @Test func strangersAreRefused() throws {
        let bench = Bench()
        let producer = try bench.producer()
        _ = bench.add(producer)
        let other = ProducerIdentity(id: producer.id + 1_000, epoch: producer.epoch)
        #expect(bench.end(other, commit: true) == .invalidProducerIDMapping)
        #expect(bench.end(next(producer), commit: true) == .producerFenced)
        #expect(bench.end(producer, commit: true, id: "unknown") == .invalidProducerIDMapping)
        #expect(bench.end(producer, commit: true, id: "") == .invalidRequest)
        #expect(bench.add(other) == .invalidProducerIDMapping)
        #expect(bench.add(next(producer)) == .producerFenced)
        #expect(bench.addGroup(producer, "g", id: "unknown") == .invalidProducerIDMapping)
        #expect(bench.state == .ongoing)
        #expect(bench.end(producer, commit: true) == KafkaErrorCode.none)
    }

    // MARK: Fencing

    @Test func aNewProducerAbortsTheOpenTransactionAndThenGetsTheNextEpochButOne() throws {
        let bench = Bench()
        let first = try bench.producer()
        _ = bench.add(first)
        #expect(bench.initialize() == .producer(.concurrentTransactions, .none))
        guard case .transaction(let prepared)? = bench.records.dropLast().last else { return #expect(Bool(false)) }
        #expect(prepared.state == .prepareAbort)
        #expect(prepared.epoch == first.epoch + 1, "the abort's markers shut the first one out of the logs")
        let second = try bench.producer()
        #expect(second == next(first, 2))
        #expect(bench.end(first, commit: true) == .producerFenced)
        #expect(bench.add(first) == .producerFenced)
        #expect(bench.add(second) == KafkaErrorCode.none)
    }

    @Test func aNewProducerWithoutAnOpenTransactionGetsTheNextEpoch() throws {
        let bench = Bench()
        let first = try bench.producer()
        _ = bench.add(first)
        _ = bench.end(first, commit: true)
        #expect(try bench.producer() == next(first))
        #expect(bench.end(first, commit: true) == .producerFenced)
    }

    @Test func aProducerAsksForANewEpochOfItsOwn() throws {
        let bench = Bench()
        let first = try bench.producer()
        let second = try bench.producer(expected: first)
        #expect(second == next(first))
        #expect(try bench.producer(expected: first) == second, "the answer was lost: asked again, it is the same")
        #expect(try bench.producer(expected: second) == next(second))
        #expect(bench.initialize(expected: first) == .producer(.producerFenced, .none))
        #expect(bench.initialize(expected: ProducerIdentity(id: 77, epoch: 0)) == .producer(.producerFenced, .none))
    }

    @Test func anotherProducersInitialisationEndsTheRetries() throws {
        let bench = Bench()
        let first = try bench.producer()
        _ = try bench.producer(expected: first)
        _ = try bench.producer()
        #expect(bench.initialize(expected: first) == .producer(.producerFenced, .none))
    }

    @Test func usedUpEpochsGiveANewProducerID() throws {
        let bench = Bench()
        var producer = try bench.producer()
        for _ in 0..<TransactionMetadata.epochMax { producer = try bench.producer() }
        #expect(producer.epoch == TransactionMetadata.epochMax)
        _ = bench.add(producer)
        #expect(bench.initialize() == .producer(.concurrentTransactions, .none), "one epoch is left to fence with")
        let fresh = try bench.producer()
        #expect(fresh.id != producer.id)
        #expect(fresh.epoch == 0)
    }

    @Test func aProducerWhoseEpochsAreUsedUpMayAskTwice() throws {
        let bench = Bench()
        var producer = try bench.producer()
        for _ in 0..<TransactionMetadata.epochMax { producer = try bench.producer() }
        let fresh = try bench.producer(expected: producer)
        #expect(fresh.id != producer.id)
        #expect(try bench.producer(expected: producer) == fresh)
    }

    @Test func idempotentProducersGetAnIDEach() throws {
        let bench = Bench()
        let first = try bench.producer(nil)
        let second = try bench.producer(nil, expected: first)
        #expect(first.epoch == 0)
        #expect(second.epoch == 0)
        #expect(first.id != second.id)
    }

    // MARK: Time

    @Test func timeoutsAreBounded() {
        let bench = Bench { $0.timeoutMax = .seconds(900) }
        #expect(bench.initialize(timeout: 900_001) == .producer(.invalidTransactionTimeout, .none))
        #expect(bench.initialize(timeout: 0) == .producer(.invalidTransactionTimeout, .none))
        #expect(bench.initialize("", timeout: 1) == .producer(.invalidRequest, .none))
        #expect(bench.initialize(timeout: 900_000) == .producer(.none, ProducerIdentity(id: 0, epoch: 0)))
    }

    @Test func aTransactionThatIsOpenTooLongIsAbortedAndItsProducerFenced() throws {
        let bench = Bench()
        let producer = try bench.producer()
        _ = bench.add(producer)
        bench.time += 59_999
        bench.run(bench.coordinator.tick(now: bench.now))
        #expect(bench.state == .ongoing)
        _ = bench.add(producer, [partition("u")])
        bench.time += 1
        #expect(bench.coordinator.nextTick.map { $0 <= bench.now } == true)
        bench.run(bench.coordinator.tick(now: bench.now))
        #expect(bench.state == .completeAbort)
        #expect(bench.end(producer, commit: true) == .producerFenced)
        #expect(bench.add(producer) == .producerFenced)
        #expect(try bench.producer() == next(producer, 2))
    }

    @Test func anIDThatNobodyUsesIsForgotten() throws {
        let bench = Bench { $0.transactionalIDExpiration = .seconds(100) }
        let producer = try bench.producer()
        bench.time += 50_000
        _ = bench.add(producer)
        _ = bench.end(producer, commit: true)
        bench.time += 99_999
        bench.run(bench.coordinator.tick(now: bench.now))
        #expect(bench.state == .completeCommit)
        bench.time += 1
        bench.run(bench.coordinator.tick(now: bench.now))
        #expect(bench.state == nil)
        #expect(bench.records.last == .transactionRemoved("T"))
        #expect(bench.end(producer, commit: true) == .invalidProducerIDMapping)
        #expect(try bench.producer(expected: producer).id != producer.id, "its producer gets a new identity")
    }

    @Test func thereAreNoMoreIDsAndPartitionsThanTheLimits() throws {
        let bench = Bench {
            $0.transactionalIDsMax = 1
            $0.partitionsMax = 2
        }
        let producer = try bench.producer()
        #expect(bench.initialize("U") == .producer(.policyViolation, .none))
        #expect(bench.add(producer, [partition("t", 0), partition("t", 1)]) == KafkaErrorCode.none)
        #expect(bench.addGroup(producer, "g") == .policyViolation)
        #expect(bench.end(producer, commit: true) == KafkaErrorCode.none)
    }

    @Test func namesInATransactionHaveALimit() throws {
        let bench = Bench { $0.namesBytesMax = 10 }
        let producer = try bench.producer()
        #expect(bench.add(producer, [partition("12345"), partition("1234")]) == KafkaErrorCode.none)
        #expect(bench.addGroup(producer, "12") == .policyViolation)
        #expect(bench.addGroup(producer, "1") == KafkaErrorCode.none)
    }

    // MARK: Verification

    @Test func recordsJoinOnlyTheTransactionThatHoldsTheirPartition() throws {
        let bench = Bench()
        let producer = try bench.producer()
        let (t, u) = (partition("t"), partition("u"))
        #expect(bench.coordinator.verify("T", producer, t) == .invalidTxnState)
        _ = bench.add(producer, [t])
        #expect(bench.coordinator.verify("T", producer, t) == KafkaErrorCode.none)
        #expect(bench.coordinator.verify("T", producer, u) == .invalidTxnState)
        #expect(bench.coordinator.verify("T", producer, group: "g") == .invalidTxnState)
        #expect(bench.coordinator.verify("T", next(producer), t) == .invalidProducerEpoch)
        #expect(bench.coordinator.verify("U", producer, t) == .invalidProducerIDMapping)
        _ = bench.end(producer, commit: false)
        #expect(bench.coordinator.verify("T", producer, t) == .invalidTxnState, "a request that comes late opens nothing")
    }

    // MARK: Restart

    @Test(arguments: [false, true]) func preparedTransactionsAreFinishedAndOpenOnesStayOpen(compacted: Bool) throws {
        let bench = Bench()
        bench.writesMarkers = false
        let committing = try bench.producer("commits")
        let open = try bench.producer("open")
        _ = bench.add(committing, [partition("t")], id: "commits")
        _ = bench.addGroup(committing, "g", id: "commits")
        _ = bench.add(open, [partition("u")], id: "open")
        _ = bench.end(committing, commit: true, id: "commits")
        let last = try bench.producer(nil)

        let again = Bench()
        for record in compacted ? bench.coordinator.records() : bench.records { again.coordinator.replay(record) }
        again.time = bench.time
        let recovered = again.coordinator.recover()
        guard case .writeMarkers(let markers)? = recovered.first else { return #expect(Bool(false), "the commit is finished") }
        #expect(recovered.count == 1)
        #expect(markers == bench.owed.first)
        again.run(recovered)
        #expect(again.end(committing, commit: true, id: "commits") == KafkaErrorCode.none)
        #expect(again.add(open, [partition("v")], id: "open") == KafkaErrorCode.none)
        #expect(again.coordinator.transactions["open"]?.partitions == [partition("u"), partition("v")])
        #expect(try again.producer(nil).id > last.id, "no producer id is given out twice")
        again.time += 60_000
        again.run(again.coordinator.tick(now: again.now))
        #expect(again.coordinator.transactions["open"]?.state == .completeAbort, "the time while the broker was down counts")
    }
}
