import Logging
import WeirBase
package import WeirKafkaWire
import WeirTransport

/// The shell around the group coordinator and the transaction coordinator: their journal, their timer, and the way back to who asked.
/// Used on the loop's thread.
///
/// What the coordinators decide is written to the journal before anyone hears of it: an answer waits until the journal is as durable as the
/// broker promises, and so do the markers of a transaction, whose end must be known before any log says so.
package final class Coordinators {
    /// Raised with every leader of a coordinator's partition in Kafka; here there is never another.
    static let coordinatorEpoch: Int32 = 0

    private unowned let broker: Broker
    private var groups: GroupCoordinator
    private var transactions: TransactionCoordinator
    /// Nil in memory.
    private let journal: Journal?
    private enum Life { case starting, running, closed }
    private var life = Life.starting
    /// Why it could not start.
    private var startFailure: BrokerFailure?
    private var groupReplies: [RequestToken: (GroupReply) -> Void] = [:]
    private var transactionReplies: [RequestToken: (TransactionCoordinator.Reply) -> Void] = [:]
    private var lastRequest: UInt64 = 0
    /// Writes to the journal that are not as durable yet as they are to be.
    private var unsettledWrites = 0
    private var timer: (id: TimerID, due: Instant)?
    /// Before this, nobody looks for transactions that timed out.
    private var transactionsDue: Instant

    /// Replays the journal; what a crash interrupted is finished, so the logs are open already.
    init(broker: Broker) throws(BrokerFailure) {
        self.broker = broker
        let now = CoordinatorTime(instant: broker.now, wall: broker.wallTime)
        var groups = GroupCoordinator(options: GroupOptions(broker.properties), seed: .random(in: 0 ... .max), now: now)
        var transactions = TransactionCoordinator(options: TransactionOptions(broker.properties))
        if let directory = broker.directory {
            let path = directory.journalPath + "/coordinators"
            let (journal, cutBytes) = try Journal.open(path) { record in
                groups.replay(record, now: now)
                transactions.replay(record)
            }
            if cutBytes > 0 {
                broker.logger.notice("cut an unfinished record off", metadata: ["path": "\(path)", "bytes": "\(cutBytes)"])
            }
            self.journal = journal
        } else {
            journal = nil
        }
        self.groups = groups
        self.transactions = transactions
        transactionsDue = now.instant
        broker.topics.observe { [unowned self] change in forgetDeleted(change) }
        run(transactions.recover())
        if let startFailure { throw startFailure }
        life = .running
        arm()
    }

    /// The disk fails: nothing that waits for it is answered any more.
    private func fail(_ failure: BrokerFailure) {
        if life == .starting { startFailure = failure } else { broker.fail(failure) }
        life = .closed
    }

    /// Closes the files.
    func close() {
        life = .closed
        if let timer { broker.cancel(timer.id) }
        timer = nil
        journal?.close()
    }

    private var now: CoordinatorTime { CoordinatorTime(instant: broker.now, wall: broker.wallTime) }

    // MARK: Requests

    private func takeRequest() -> RequestToken {
        lastRequest += 1
        return RequestToken(lastRequest)
    }

    func handle(_ event: GroupCoordinator.Event, reply: @escaping (GroupReply) -> Void) {
        let request = takeRequest()
        groupReplies[request] = reply
        run(groups.handle(event, request: request, now: now))
        arm()
    }

    func handle(_ event: TransactionCoordinator.Event, reply: @escaping (TransactionCoordinator.Reply) -> Void) {
        let request = takeRequest()
        transactionReplies[request] = reply
        run(transactions.handle(event, request: request, now: broker.wallTime))
        arm()
    }

    /// Asks the groups; the answer waits until what it says cannot be lost.
    func query<Answer>(_ body: (GroupCoordinator) -> Answer, reply: @escaping (Answer) -> Void) {
        let answer = body(groups)
        whenSettled { reply(answer) }
    }

    /// Asks the transactions; the answer waits until what it says cannot be lost.
    func query<Answer>(_ body: (TransactionCoordinator) -> Answer, reply: @escaping (Answer) -> Void) {
        let answer = body(transactions)
        whenSettled { reply(answer) }
    }

    /// Whether records of a producer may be appended to a partition as part of its transaction: 0, or what Produce answers.
    ///
    /// The logs ask before a producer's first records of a transaction: a request that comes late, after the transaction's end, must not
    /// open one that nobody ends (KIP-890).
    package func verify(transactionalID: String, producerID: Int64, epoch: Int16, partition: TopicPartition) -> KafkaErrorCode {
        transactions.verify(transactionalID, ProducerIdentity(id: producerID, epoch: epoch), partition)
    }

    /// Whether offsets of a group may be committed as part of a producer's transaction.
    func verify(transactionalID: String, producer: ProducerIdentity, group: String) -> KafkaErrorCode {
        transactions.verify(transactionalID, producer, group: group)
    }

    /// Where a transactional id stands; nil for one that is not known.
    func state(of transactionalID: String) -> TransactionState? { transactions.transactions[transactionalID]?.state }

    // MARK: Effects

    private func run(_ effects: [GroupCoordinator.Effect]) {
        var replies: [(RequestToken, GroupReply)] = []
        for effect in effects {
            switch effect {
            case .persist(let record): journal?.append(record)
            case .reply(let request, let reply): replies.append((request, reply))
            case .log(let message, let group, let detail):
                broker.logger.debug("group: \(message)", metadata: ["group.id": "\(group)", "detail": "\(detail)"])
            }
        }
        guard writeJournal() else { return }
        for (request, reply) in replies {
            guard let send = groupReplies.removeValue(forKey: request) else { preconditionFailure("\(request) of a group is answered twice") }
            // Says nothing of what is stored, and a member must not be lost to a slow disk.
            if case .heartbeat = reply { send(reply) } else { whenSettled { send(reply) } }
        }
    }

    private func run(_ effects: [TransactionCoordinator.Effect]) {
        var followUps: [() -> Void] = []
        for effect in effects {
            switch effect {
            case .persist(let record): journal?.append(record)
            case .reply(let request, let reply):
                guard let send = transactionReplies.removeValue(forKey: request) else {
                    preconditionFailure("\(request) of a transaction is answered twice")
                }
                followUps.append { send(reply) }
            case .writeMarkers(let markers): followUps.append { [unowned self] in write(markers) }
            case .log(let message, let transactionalID, let detail):
                broker.logger.info("transaction: \(message)", metadata: ["transactional.id": "\(transactionalID)", "detail": "\(detail)"])
            }
        }
        guard writeJournal() else { return }
        for body in followUps { whenSettled(body) }
    }

    /// The end of a transaction is stored: the logs and the groups hear of it, and when that is stored too, the transaction is complete.
    private func write(_ markers: TransactionMarkers) {
        for partition in markers.partitions {
            // One that was deleted has no readers to tell.
            guard let log = broker.logs.log(partition.topic, partition.partition) else { continue }
            do throws(LogRejection) {
                try log.appendMarker(
                    producerID: markers.producer.id, epoch: markers.producer.epoch, commit: markers.commit,
                    coordinatorEpoch: Self.coordinatorEpoch, now: broker.wallTime.milliseconds)
            } catch {
                guard error.code != .kafkaStorageError else { return fail(BrokerFailure(error.message)) }
                // Somebody wrote here under an epoch that nobody was given, and with it ended the transaction in this partition.
                broker.logger.warning(
                    "a transaction's marker is refused",
                    metadata: ["transactional.id": "\(markers.transactionalID)", "partition": "\(partition)", "error": "\(error)"])
            }
        }
        run(groups.completeTransaction(producerID: markers.producer.id, groups: markers.groups, commit: markers.commit, now: now))
        guard life != .closed else { return }
        broker.afterCommit { [unowned self] in
            run(transactions.markersWritten(markers, now: broker.wallTime))
            arm()
        }
    }

    /// - Returns: False where the disk refuses: what follows from the effects must not happen.
    private func writeJournal() -> Bool {
        guard life != .closed else { return false }
        guard let journal else { return true }
        do throws(BrokerFailure) {
            guard try journal.write() else { return true }
            if journal.needsCompaction {
                try journal.compact(to: transactions.records() + groups.records())
                broker.logger.info("wrote the journal anew", metadata: ["path": "\(journal.file.path)", "bytes": "\(journal.bytes)"])
            }
        } catch {
            fail(error)
            return false
        }
        broker.markDirty(journal.file)
        unsettledWrites += 1
        broker.afterCommit { [unowned self] in unsettledWrites -= 1 }
        return true
    }

    private func whenSettled(_ body: @escaping () -> Void) {
        if unsettledWrites > 0 { broker.afterCommit(body) } else { body() }
    }

    private func forgetDeleted(_ change: TopicChange) {
        guard case .deleted(let topic) = change else { return }
        run(groups.partitionsDeleted(where: { $0.topic == topic.name }, now: now))
    }

    // MARK: Time

    /// Sets the timer for what is due first.
    private func arm() {
        guard life == .running else { return }
        let now = now
        var due = groups.nextTick
        if let next = transactions.nextTick {
            let wait = max(0, min(next.milliseconds - now.wall.milliseconds, 86_400_000))
            due = min(due, max(now.instant.advanced(by: .milliseconds(wait)), transactionsDue))
        }
        if let timer {
            guard due < timer.due else { return }
            broker.cancel(timer.id)
        }
        let delay = max(.milliseconds(1), now.instant.duration(to: due))
        timer = (broker.schedule(after: delay) { [unowned self] in timerFired() }, due)
    }

    private func timerFired() {
        timer = nil
        let now = now
        run(groups.tick(now: now))
        if life == .running, now.instant >= transactionsDue {
            run(transactions.tick(now: now.wall))
            transactionsDue = now.instant.advanced(
                by: .milliseconds(broker.properties.int64("transaction.abort.timed.out.transaction.cleanup.interval.ms")))
        }
        arm()
    }
}

extension GroupOptions {
    init(_ properties: ConfigValues) {
        self.init()
        sessionTimeoutMin = .milliseconds(properties.int64("group.min.session.timeout.ms"))
        sessionTimeoutMax = .milliseconds(properties.int64("group.max.session.timeout.ms"))
        initialRebalanceDelay = .milliseconds(properties.int64("group.initial.rebalance.delay.ms"))
        membersMax = properties.int("group.max.size")
        groupsMax = properties.int("max.groups")
        offsetMetadataBytesMax = properties.int("offset.metadata.max.bytes")
        offsetsRetention = .seconds(60 * properties.int64("offsets.retention.minutes"))
        offsetsRetentionCheckInterval = .milliseconds(properties.int64("offsets.retention.check.interval.ms"))
    }
}

extension TransactionOptions {
    init(_ properties: ConfigValues) {
        self.init()
        timeoutMax = .milliseconds(properties.int64("transaction.max.timeout.ms"))
        transactionalIDExpiration = .milliseconds(properties.int64("transactional.id.expiration.ms"))
        transactionalIDsMax = properties.int("max.transactional.ids")
    }
}
