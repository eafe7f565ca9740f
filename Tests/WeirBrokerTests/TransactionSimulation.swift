import WeirBase
import WeirKafkaWire

@testable import WeirBroker

/// Producers, zombies, late requests, clocks and crashes around the real coordinators, all drawn from a seed.
///
/// Disks are modelled as what is written and how much of it is on the disk: a crash of the machine loses any end of what was not, a crash of
/// the process loses nothing. The logs and the journal lose independently of each other. Clients know only what they were answered.
struct TransactionSimulation {
    /// What a log holds: records and markers.
    enum Entry: Equatable {
        case record(ProducerIdentity, value: Int)
        case marker(ProducerIdentity, commit: Bool)
    }

    /// Written entries, of which the first `durable` survive a crash of the machine.
    struct Disk<Element> {
        var written: [Element] = []
        var durable = 0

        mutating func sync() { durable = written.count }

        mutating func crash(keeping kept: Int) {
            written = Array(written.prefix(max(durable, min(written.count, kept))))
            durable = written.count
        }
    }

    /// One transaction as its producer sees it.
    struct Attempt {
        var producer: ProducerIdentity
        var values: [TopicPartition: [Int]] = [:]
        /// The offset that it commits in its group; larger than any before.
        var offset: Int?
        enum Outcome { case open, committing, committed, aborting, aborted, lost }
        var outcome = Outcome.open
    }

    /// What a client asks for. It asks again until it is answered, and does nothing else meanwhile.
    fileprivate enum Request {
        case initialise(expected: ProducerIdentity?)
        case add(TopicPartition)
        case produce(TopicPartition, value: Int)
        case addGroup
        case commitOffset(Int)
        case end(commit: Bool)
    }

    struct Client {
        let transactionalID: String
        var producer: ProducerIdentity?
        var attempt: Attempt?
        fileprivate var request: Request?
        /// The request was sent and may be answered yet.
        fileprivate var sent: RequestToken?
    }

    private struct Produce {
        var token: RequestToken
        var transactionalID: String
        var producer: ProducerIdentity
        var partition: TopicPartition
        var value: Int
    }

    private enum Answer {
        case transaction(TransactionCoordinator.Reply)
        case group(GroupReply)
        case produced
    }

    /// Something that happens once the disk has what was written before.
    private enum Settled {
        case answer(RequestToken, Answer)
        case writeMarkers(TransactionMarkers)
        case markersWritten(TransactionMarkers)
    }

    static let partitions = (0..<3).map { TopicPartition(topic: "t", partition: $0) }
    static let group = "g"

    private var random: SplitMix64
    private var transactions: TransactionCoordinator
    private var groups: GroupCoordinator
    private var journal = Disk<CoordinatorRecord>()
    private(set) var logs: [TopicPartition: Disk<Entry>] = [:]
    private var clients: [Client] = []
    private var settled: [Settled] = []
    /// On its way for long: it arrives even after whoever sent it has given up.
    private var late: [Produce] = []
    private var time: Int64 = 1_000_000_000
    private var lastRequest: UInt64 = 0
    private var lastValue = 0
    private(set) var attempts: [Attempt] = []
    private(set) var problems: [String] = []
    private(set) var crashes = 0

    init(seed: UInt64) {
        random = SplitMix64(seed: seed)
        transactions = TransactionCoordinator(options: TransactionOptions())
        groups = GroupCoordinator(
            options: GroupOptions(), seed: seed, now: CoordinatorTime(instant: Instant(nanoseconds: 0), wall: WallTime(milliseconds: 0)))
        // Two of the four ids have two clients, each the other's zombie.
        clients = (0..<6).map { Client(transactionalID: "T\($0 % 4)") }
        for partition in Self.partitions { logs[partition] = Disk() }
    }

    private mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(max(1, bound))) }
    private mutating func chance(_ perMille: Int) -> Bool { below(1_000) < perMille }
    private var now: CoordinatorTime {
        CoordinatorTime(instant: Instant(nanoseconds: time * 1_000_000), wall: WallTime(milliseconds: time))
    }

    // MARK: The run

    mutating func run(steps: Int) {
        for _ in 0..<steps {
            switch below(100) {
            case 0..<55: act(below(clients.count))
            case 55..<90: settleOne()
            case 90..<92: if !late.isEmpty, chance(100) { produce(late.removeFirst()) }
            case 92..<94: time += Int64(below(2_000))
            case 94..<97: tick()
            case 97..<98: crash(ofMachine: false)
            case 98..<99: crash(ofMachine: true)
            default: compact()
            }
        }
        finish()
    }

    /// Nobody fails any more, and every timeout passes: nothing may be left open.
    private mutating func finish() {
        for request in late { produce(request) }
        while !settled.isEmpty { settleOne() }
        time += 120_000
        tick()
        while !settled.isEmpty { settleOne() }
        check()
    }

    private mutating func tick() {
        run(transactions.tick(now: now.wall))
        run(groups.tick(now: now))
    }

    // MARK: Clients

    private mutating func act(_ index: Int) {
        if clients[index].sent != nil {
            // It gives up waiting now and then, and asks again; after a Produce it may abort instead.
            guard chance(50) else { return }
            clients[index].sent = nil
            if case .produce = clients[index].request, chance(500) {
                clients[index].attempt?.outcome = .aborting
                clients[index].request = .end(commit: false)
            }
            return
        }
        if clients[index].request == nil { clients[index].request = nextRequest(index) }
        if clients[index].request != nil { send(index) }
    }

    private mutating func nextRequest(_ index: Int) -> Request? {
        guard let producer = clients[index].producer else { return .initialise(expected: nil) }
        // A new process, or one that wants a new epoch of its own.
        if chance(10) { return .initialise(expected: chance(500) ? producer : nil) }
        guard let attempt = clients[index].attempt else {
            clients[index].attempt = Attempt(producer: producer)
            return nil
        }
        switch below(12) {
        case 0..<7: return .add(Self.partitions[below(Self.partitions.count)])
        case 7: return .addGroup
        case 8 where chance(100):
            clients[index].attempt = nil  // Forgotten: left to the timeout, or to whatever comes next.
            clients[index].producer = nil
            return nil
        default:
            guard !attempt.values.isEmpty || attempt.offset != nil else { return nil }
            let commit = chance(700)
            clients[index].attempt?.outcome = commit ? .committing : .aborting
            return .end(commit: commit)
        }
    }

    private mutating func send(_ index: Int) {
        lastRequest += 1
        let token = RequestToken(lastRequest)
        clients[index].sent = token
        let id = clients[index].transactionalID
        let producer = clients[index].producer ?? .none
        switch clients[index].request {
        case .initialise(let expected):
            handle(.initProducerID(transactionalID: id, timeoutMilliseconds: 10_000, expected: expected), token)
        case .add(let partition): handle(.addPartitions(transactionalID: id, producer, [partition]), token)
        case .produce(let partition, let value):
            let produce = Produce(token: token, transactionalID: id, producer: producer, partition: partition, value: value)
            if chance(100) { late.append(produce) } else { self.produce(produce) }
        case .addGroup: handle(.addGroup(transactionalID: id, producer, group: Self.group), token)
        case .commitOffset(let offset): commitOffset(token, id, producer, offset)
        case .end(let commit): handle(.end(transactionalID: id, producer, commit: commit), token)
        case nil: break
        }
    }

    private mutating func handle(_ event: TransactionCoordinator.Event, _ token: RequestToken) {
        run(transactions.handle(event, request: token, now: now.wall))
    }

    private mutating func answer(_ token: RequestToken, _ answer: Answer) {
        guard let index = clients.firstIndex(where: { $0.sent == token }), let request = clients[index].request else { return }
        clients[index].sent = nil
        if case .transaction(.done(.concurrentTransactions)) = answer { return }  // It asks again.
        if case .transaction(.producer(.concurrentTransactions, _)) = answer { return }
        clients[index].request = nil
        switch (request, answer) {
        case (.initialise, .transaction(.producer(.none, let producer))):
            abandon(index)
            clients[index].producer = producer
        case (.add(let partition), .transaction(.done(.none))):
            lastValue += 1
            clients[index].request = .produce(partition, value: lastValue)
        case (.produce(let partition, let value), .produced): clients[index].attempt?.values[partition, default: []].append(value)
        case (.addGroup, .transaction(.done(.none))):
            lastValue += 1
            clients[index].request = .commitOffset(lastValue)
        case (.commitOffset(let offset), .group): clients[index].attempt?.offset = offset
        case (.end(let commit), .transaction(.done(.none))):
            clients[index].attempt?.outcome = commit ? .committed : .aborted
            if let attempt = clients[index].attempt { attempts.append(attempt) }
            clients[index].attempt = nil
        default:
            // Fenced, or its id is unknown: what became of the transaction is not known here.
            abandon(index)
            clients[index].producer = nil
        }
    }

    private mutating func abandon(_ index: Int) {
        guard var attempt = clients[index].attempt else { return }
        attempt.outcome = .lost
        attempts.append(attempt)
        clients[index].attempt = nil
    }

    /// Appends as Produce does, with the log's own fence and the coordinator's word. A retry whose record is there already is no new one.
    private mutating func produce(_ request: Produce) {
        let (producer, partition) = (request.producer, request.partition)
        let record = Entry.record(producer, value: request.value)
        let isDuplicate = logs[partition]?.written.contains(record) == true
        let isFenced = fence(partition, producer.id) > producer.epoch
        let mayJoin = isOpen(partition, producer.id) || transactions.verify(request.transactionalID, producer, partition) == .none
        guard !isFenced, isDuplicate || mayJoin else {
            return settled.append(.answer(request.token, .transaction(.done(.producerFenced))))
        }
        if !isDuplicate { logs[partition]?.written.append(record) }
        settled.append(.answer(request.token, .produced))
    }

    private func fence(_ partition: TopicPartition, _ producerID: Int64) -> Int16 {
        (logs[partition]?.written ?? []).compactMap { entry in
            switch entry {
            case .record(let producer, _), .marker(let producer, _): producer.id == producerID ? producer.epoch : nil
            }
        }.max() ?? 0
    }

    private func isOpen(_ partition: TopicPartition, _ producerID: Int64) -> Bool {
        for entry in (logs[partition]?.written ?? []).reversed() {
            switch entry {
            case .record(let producer, _): if producer.id == producerID { return true }
            case .marker(let producer, _): if producer.id == producerID { return false }
            }
        }
        return false
    }

    private mutating func commitOffset(_ token: RequestToken, _ id: String, _ producer: ProducerIdentity, _ offset: Int) {
        guard transactions.verify(id, producer, group: Self.group) == .none else {
            return settled.append(.answer(token, .transaction(.done(.producerFenced))))
        }
        let offsets = [Self.partitions[0]: CommittedOffset(offset: Int64(offset), committedAt: now.wall)]
        run(groups.handle(.commit(OffsetCommit(group: Self.group, offsets: offsets, producerID: producer.id)), request: token, now: now))
    }

    // MARK: The broker

    private mutating func run(_ effects: [TransactionCoordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .persist(let record): journal.written.append(record)
            case .reply(let request, let reply): settled.append(.answer(request, .transaction(reply)))
            case .writeMarkers(let markers): settled.append(.writeMarkers(markers))
            case .log: break
            }
        }
    }

    private mutating func run(_ effects: [GroupCoordinator.Effect]) {
        for effect in effects {
            switch effect {
            case .persist(let record): journal.written.append(record)
            case .reply(let request, let reply): settled.append(.answer(request, .group(reply)))
            case .log: break
            }
        }
    }

    /// Everything written is brought to the disk, then the first that waited for it goes on.
    private mutating func settleOne() {
        guard !settled.isEmpty else { return }
        journal.sync()
        for partition in Self.partitions { logs[partition]?.sync() }
        switch settled.removeFirst() {
        case .answer(let token, let reply): answer(token, reply)
        case .writeMarkers(let markers):
            for partition in markers.partitions {
                if fence(partition, markers.producer.id) > markers.producer.epoch { problems.append("a marker of \(markers.producer) comes late") }
                logs[partition]?.written.append(.marker(markers.producer, commit: markers.commit))
            }
            run(groups.completeTransaction(producerID: markers.producer.id, groups: markers.groups, commit: markers.commit, now: now))
            settled.append(.markersWritten(markers))
        case .markersWritten(let markers): run(transactions.markersWritten(markers, now: now.wall))
        }
    }

    private mutating func crash(ofMachine: Bool) {
        crashes += 1
        if ofMachine {
            journal.crash(keeping: below(journal.written.count + 1))
            for partition in Self.partitions {
                let kept = below((logs[partition]?.written.count ?? 0) + 1)
                logs[partition]?.crash(keeping: kept)
            }
        }
        settled = []
        late = []
        // Connections are lost with whatever was on its way.
        for index in clients.indices { clients[index].sent = nil }
        restart()
    }

    private mutating func restart() {
        time += Int64(below(1_000))
        transactions = TransactionCoordinator(options: TransactionOptions())
        groups = GroupCoordinator(options: GroupOptions(), seed: random.next(), now: now)
        for record in journal.written {
            transactions.replay(record)
            groups.replay(record, now: now)
        }
        run(transactions.recover())
    }

    private mutating func compact() {
        journal.written = transactions.records() + groups.records()
        journal.sync()
    }

    // MARK: What must hold

    /// What a reader of committed records sees of a log.
    func visible(_ partition: TopicPartition) -> (committed: Set<Int>, aborted: Set<Int>, open: Set<Int>) {
        var open: [Int64: [Int]] = [:]
        var (committed, aborted): (Set<Int>, Set<Int>) = ([], [])
        for entry in logs[partition]?.written ?? [] {
            switch entry {
            case .record(let producer, let value): open[producer.id, default: []].append(value)
            case .marker(let producer, let commit):
                let values = open.removeValue(forKey: producer.id) ?? []
                if commit { committed.formUnion(values) } else { aborted.formUnion(values) }
            }
        }
        return (committed, aborted, Set(open.values.joined()))
    }

    private mutating func check() {
        let seen = Dictionary(uniqueKeysWithValues: Self.partitions.map { ($0, visible($0)) })
        for (partition, values) in seen where !values.open.isEmpty {
            problems.append("\(partition) has an open transaction: \(values.open.sorted())")
        }
        for transaction in transactions.all where transaction.state == .ongoing || transaction.state.isPrepared {
            problems.append("\(transaction.transactionalID) is \(transaction.state.name)")
        }
        for attempt in attempts {
            let values = attempt.values.flatMap { partition, values in values.map { (partition, $0) } }
            let committed = values.filter { seen[$0.0]?.committed.contains($0.1) == true }
            switch attempt.outcome {
            case .committed where committed.count != values.count: problems.append("a committed transaction lost records: \(attempt)")
            case .aborted where !committed.isEmpty: problems.append("an aborted transaction shows records: \(attempt)")
            default:
                if !committed.isEmpty, committed.count != values.count { problems.append("a transaction shows in part: \(attempt)") }
            }
        }
        checkOffsets()
        if groups.groups[Self.group]?.offsets.pending.isEmpty == false { problems.append("offsets of a transaction are pending still") }
    }

    private mutating func checkOffsets() {
        var found: Int64?
        if case .committed(let value) = groups.fetch(Self.partitions[0], group: Self.group, requireStable: true) { found = value.offset }
        guard let found else {
            if let attempt = attempts.first(where: { $0.outcome == .committed && $0.offset != nil }) {
                problems.append("an offset is lost: \(attempt)")
            }
            return
        }
        // Of what was aborted for sure, nothing holds.
        if let attempt = attempts.first(where: { $0.outcome == .aborted && $0.offset == Int(found) }) {
            problems.append("the offset of an aborted transaction holds: \(attempt)")
        }
    }
}
