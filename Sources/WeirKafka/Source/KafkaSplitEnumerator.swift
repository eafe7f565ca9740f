import WeirBase

/// Decides which partitions a subtask reads from where: start, restore, discovery, removal.
///
/// A value: no I/O, clock or thread. Whoever owns it does what the effects say, in order, and tells the outcomes as events. Nothing that an
/// effect asks the broker is asked twice at a time.
struct KafkaSplitEnumerator {
    enum Event: Equatable, Sendable {
        /// Time has passed, perhaps beyond ``KafkaSplitEnumerator/deadline``.
        case tick
        case listed(KafkaListing)
        case listingFailed(JobFailure)
        /// Positions with start and stop; those of a question that are missing could not be looked up, as `failure` says.
        case resolved([KafkaPosition], failure: JobFailure?)
        /// The client says that a topic or partition that it reads is unknown.
        case suspected
    }

    enum Effect: Equatable, Sendable {
        /// Ask for the topics of the subscription, and for these by name if it is a pattern.
        case list(known: [String])
        case resolve([KafkaResolution])
        /// The partition is this subtask's, but not to be read yet: the position belongs to checkpoints.
        case hold(KafkaPosition)
        case read(KafkaPosition)
        case drop([KafkaPartition])
        case fail(JobFailure)
        /// Something that a person should see in the log.
        case warn(String)
        case countDiscoveryError
        /// All partitions that there are at the start are known.
        case settled
    }

    /// How often the broker must say that a topic is gone.
    static let removalConfirmations = 3
    private static let confirmationPause = Duration.seconds(1)
    private static let backoffMin = Duration.milliseconds(100)
    private static let resolutionBackoffMax = Duration.seconds(5)
    private static let listingBackoffMax = Duration.seconds(60)

    private enum Status: Equatable {
        case reading
        /// Start or stop are still to be looked up.
        case waiting(KafkaResolution)
    }

    private let settings: KafkaSourceSettings
    private let assignment: KafkaAssignment
    private let subtask: Int
    private let restored: KafkaRestoredState?
    private let startingShares: [(assignment: KafkaAssignment, subtask: Int)]
    private var splits: [KafkaPartition: Status] = [:]
    private var leaderless: Set<KafkaPartition> = []
    private var timesMissing: [String: Int] = [:]
    private var warned: Set<String> = []

    private(set) var isSettled = false
    private var isListing = false
    private var listAt: Instant?
    private var listingBackoff = backoffMin
    private var isResolving = false
    private var resolveAt: Instant?
    private var resolutionBackoff = backoffMin
    /// When the lookup of a start or stop position that should succeed began to fail.
    private var failingSince: Instant?

    /// - Parameter restored: nil if the job starts from nothing.
    init(settings: KafkaSourceSettings, subtask: Int, parallelism: Int, restored: KafkaRestoredState?) {
        self.settings = settings
        self.subtask = subtask
        self.restored = restored
        assignment = KafkaAssignment(settings.subscription, parallelism: parallelism)
        startingShares = (restored?.starting ?? []).map { share in
            (KafkaAssignment(settings.subscription, parallelism: share.parallelism), share.subtask)
        }
    }

    /// Whether new partitions are looked for.
    var discovers: Bool { settings.discoveryInterval > .zero && !settings.isBounded }

    /// When to be told of the time next.
    var deadline: Instant? {
        switch (isListing ? nil : listAt, isResolving ? nil : resolveAt) {
        case (let first?, let second?): min(first, second)
        case (let first, let second): first ?? second
        }
    }

    /// What a checkpoint has is read from there without asking; the rest waits for the first listing.
    mutating func start(now: Instant) -> [Effect] {
        var effects: [Effect] = []
        var foreign: Set<String> = []
        for position in (restored?.positions ?? []).sorted(by: { $0.split < $1.split }) {
            switch assignment.owner(of: position.split) {
            case nil: foreign.insert(position.split.topic)
            case subtask?: effects += take(position)
            default: break
            }
        }
        if subtask == 0, !foreign.isEmpty {
            effects.append(.warn("the checkpoint has positions in \(foreign.sorted().joined(separator: ", ")), which the source does not read"))
        }
        isListing = true
        return effects + [.list(known: knownTopics)]
    }

    mutating func handle(_ event: Event, now: Instant) -> [Effect] {
        switch event {
        case .tick: return due(now)
        case .suspected:
            listAt = min(listAt ?? now.advanced(by: Self.confirmationPause), now.advanced(by: Self.confirmationPause))
            return due(now)
        case .listingFailed(let failure): return listingFailed(failure, now)
        case .listed(let listing):
            isListing = false
            listingBackoff = Self.backoffMin
            listAt = discovers ? now.advanced(by: settings.discoveryInterval) : nil
            return listed(listing, now) + due(now)
        case .resolved(let positions, let failure):
            isResolving = false
            return resolved(positions, failure, now) + due(now)
        }
    }

    private mutating func due(_ now: Instant) -> [Effect] {
        var effects: [Effect] = []
        if !isListing, let at = listAt, at <= now {
            (isListing, listAt) = (true, nil)
            effects.append(.list(known: knownTopics))
        }
        if !isResolving, let at = resolveAt, at <= now {
            resolveAt = nil
            let askable = waiting.filter { !leaderless.contains($0.position.split) }
            if askable.isEmpty {
                lookForLeaders(now)
            } else {
                isResolving = true
                effects.append(.resolve(askable.sorted { $0.position.split < $1.position.split }))
            }
        }
        return effects
    }

    /// Whether a partition has a leader now, only a listing tells.
    private mutating func lookForLeaders(_ now: Instant) {
        listAt = min(listAt ?? now.advanced(by: resolutionBackoff), now.advanced(by: resolutionBackoff))
        resolutionBackoff = min(resolutionBackoff * 2, Self.resolutionBackoffMax)
    }

    private var knownTopics: [String] { Set(splits.keys.map(\.topic)).sorted() }

    private var waiting: [KafkaResolution] {
        splits.values.compactMap { if case .waiting(let resolution) = $0 { resolution } else { nil } }
    }

    // MARK: Listings

    private mutating func listingFailed(_ failure: JobFailure, _ now: Instant) -> [Effect] {
        isListing = false
        // Before the first listing nothing is known: the job says so instead of standing still.
        guard isSettled, failure.recovery == .restart else { return [.fail(failure)] }
        let limit = discovers ? min(Self.listingBackoffMax, settings.discoveryInterval) : Self.listingBackoffMax
        listAt = now.advanced(by: min(listingBackoff, limit))
        listingBackoff = min(listingBackoff * 2, Self.listingBackoffMax)
        return [.countDiscoveryError, .warn("looking for new partitions failed and is tried again: \(failure)")]
    }

    private mutating func listed(_ listing: KafkaListing, _ now: Instant) -> [Effect] {
        var effects: [Effect] = []
        var mustLookAgain = false
        for topic in settings.subscription.topicNames ?? listing.topics.keys.sorted() {
            guard let found = listing.topics[topic] else { continue }
            let own = splits.keys.filter { $0.topic == topic }.sorted()
            switch found {
            case .partitions(let count, let withoutLeader) where own.allSatisfy({ $0.partition < count }):
                timesMissing[topic] = nil
                warned.remove(topic)
                effects += partitions(of: topic, count, withoutLeader)
            case .partitions(let count, _) where !isSettled:
                let lost = own.first { $0.partition >= count } ?? KafkaPartition(topic, Int32(count))
                return [.fail(madeAnew(lost, count))]
            case .failed(let reason):
                guard isSettled else { return [.fail(found.failure(topic: topic, bootstrap: settings.bootstrap, recovery: startRecovery))] }
                effects += [.countDiscoveryError, .warn("the Kafka topic \"\(topic)\" cannot be looked at: \(reason)")]
            case .missing, .partitions:
                guard !own.isEmpty else {
                    if !isSettled, settings.subscription.topicNames != nil {
                        return [.fail(found.failure(topic: topic, bootstrap: settings.bootstrap, recovery: startRecovery))]
                    }
                    continue
                }
                timesMissing[topic, default: 0] += 1
                if timesMissing[topic, default: 0] < Self.removalConfirmations {
                    mustLookAgain = true
                } else {
                    effects += removed(topic, own)
                }
            }
        }
        if let missing = missingPartition(listing) { return [.fail(missing)] }
        if mustLookAgain { listAt = now.advanced(by: Self.confirmationPause) }
        if !waiting.isEmpty, resolveAt == nil { resolveAt = now }
        if !isSettled, !mustLookAgain {
            isSettled = true
            effects.append(.settled)
        }
        return effects
    }

    private var startRecovery: JobFailure.Recovery { restored == nil ? .fail : .restart }

    /// What is new of a topic becomes this subtask's if it is its share.
    private mutating func partitions(of topic: String, _ count: Int, _ withoutLeader: Set<Int32>) -> [Effect] {
        var effects: [Effect] = []
        for number in 0..<Int32(count) {
            let partition = KafkaPartition(topic, number)
            guard assignment.owner(of: partition) == subtask else { continue }
            if withoutLeader.contains(number) { leaderless.insert(partition) } else { leaderless.remove(partition) }
            guard splits[partition] == nil else { continue }
            effects += take(KafkaPosition(split: partition, next: KafkaPosition.unresolved), isNew: isAddition(partition))
        }
        return effects
    }

    /// Whether a partition without a position came after the job had started: nothing of it may be left out.
    private func isAddition(_ partition: KafkaPartition) -> Bool {
        if isSettled { return true }
        guard restored != nil else { return false }
        return !startingShares.contains { $0.assignment.owner(of: partition) == $0.subtask }
    }

    /// Takes a partition on, to be read at once if nothing has to be looked up.
    private mutating func take(_ position: KafkaPosition, isNew: Bool = false) -> [Effect] {
        var position = position
        if !settings.isBounded { position.stop = KafkaPosition.unbounded }
        let start: KafkaStart? = position.next == KafkaPosition.unresolved ? (isNew ? .earliest : settings.start) : nil
        if let start, !settings.isBounded, let known = start.offset(of: position.split) { position.next = known }
        let needsStart = position.next == KafkaPosition.unresolved || (settings.isBounded && position.next == KafkaPosition.earliest)
        let needsStop = settings.isBounded && position.stop == KafkaPosition.unbounded && !position.hasEnded
        guard needsStart || needsStop else {
            splits[position.split] = .reading
            return [.read(position)]
        }
        let resolution = KafkaResolution(position: position, start: needsStart ? start ?? .earliest : nil, needsStop: needsStop)
        splits[position.split] = .waiting(resolution)
        return [.hold(position)]
    }

    private func madeAnew(_ partition: KafkaPartition, _ count: Int) -> JobFailure {
        JobFailure(
            domain: .external, recovery: .fail,
            message: "\(partition) is in the checkpoint, but the topic has only \(count) partitions at \(settings.bootstrap):"
                + " it was made anew, or this is another cluster")
    }

    /// A partition that was asked for by number and is not there.
    private func missingPartition(_ listing: KafkaListing) -> JobFailure? {
        guard !isSettled else { return nil }
        for partition in settings.subscription.partitions {
            guard case .partitions(let count, _)? = listing.topics[partition.topic], partition.partition >= count else { continue }
            return JobFailure(
                domain: .external, recovery: startRecovery,
                message: "the Kafka partition \(partition) does not exist at \(settings.bootstrap): the topic has \(count) partitions, from 0")
        }
        return nil
    }

    private mutating func removed(_ topic: String, _ own: [KafkaPartition]) -> [Effect] {
        switch settings.removal {
        case .fail:
            return [
                .fail(
                    JobFailure(
                        domain: .external, recovery: .fail,
                        message: "the Kafka topic \"\(topic)\", which the source reads, was deleted or made anew with fewer partitions at"
                            + " \(settings.bootstrap): start without it, or allow it with onTopicRemoved"))
            ]
        case .keep:
            guard warned.insert(topic).inserted else { return [] }
            return [.warn("the Kafka topic \"\(topic)\" is gone; its positions are kept")]
        case .drop:
            for partition in own { splits[partition] = nil }
            timesMissing[topic] = nil
            return [.warn("the Kafka topic \"\(topic)\" is gone; \(own.count) partitions are dropped"), .drop(own)]
        }
    }

    // MARK: Lookups

    private mutating func resolved(_ positions: [KafkaPosition], _ failure: JobFailure?, _ now: Instant) -> [Effect] {
        var effects: [Effect] = []
        for position in positions.sorted(by: { $0.split < $1.split }) {
            guard case .waiting? = splits[position.split] else { continue }  // Dropped meanwhile.
            splits[position.split] = .reading
            effects.append(.read(position))
        }
        guard !waiting.isEmpty else {
            (failingSince, resolutionBackoff) = (nil, Self.backoffMin)
            return effects
        }
        if let failure {
            if failure.recovery == .fail { return effects + [.fail(failure)] }
            let since = failingSince ?? now
            failingSince = since
            if since.duration(to: now) >= settings.lookupTimeout { return effects + [.fail(failure)] }
            effects += [.countDiscoveryError, .warn("start or stop positions cannot be looked up yet: \(failure)")]
        } else {
            failingSince = nil
        }
        resolveAt = now.advanced(by: resolutionBackoff)
        lookForLeaders(now)
        return effects
    }
}

/// What a checkpoint says about a source: of all its subtasks.
struct KafkaRestoredState: Equatable, Sendable {
    var positions: [KafkaPosition] = []
    var starting: [KafkaStartingShare] = []
}

/// A partition whose start or stop has to be looked up.
struct KafkaResolution: Equatable, Sendable {
    var position: KafkaPosition
    /// nil: the position has its start.
    var start: KafkaStart?
    var needsStop: Bool
}

extension KafkaStart {
    /// The start in a partition, where no lookup is needed: ``KafkaPosition/earliest`` is left to the broker.
    func offset(of partition: KafkaPartition) -> Int64? {
        switch self {
        case .earliest: KafkaPosition.earliest
        case .offsets(let listed, _): listed[partition.topic]?[partition.partition]
        case .latest, .timestamp, .committed: nil
        }
    }
}
