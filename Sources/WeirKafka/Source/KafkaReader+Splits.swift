import WeirBase
public import WeirDataflow
import WeirStreams

/// Which partitions are read, and from where: what the enumerator says is done here.
extension KafkaReader {
    /// How often the client may say in a row that an offset is out of a range in which the broker says it is.
    private static let falseAlarmsMax = 3

    /// Begins to find out what to read. Returns at once: the client is made and the broker asked on another thread.
    ///
    /// - Throws: `ConfigurationError` if the job's options for the source are wrong.
    @usableFromInline
    func start(_ context: OperatorContext) throws {
        self.context = context
        settings = try settings.configured(by: context.settings, uid: uid)
        prefetch = KafkaPrefetch(settings.properties)
        let log = KafkaLog(context)
        self.log = log
        metrics = KafkaSourceMetrics(context)
        commits.start(settings, now: context.clock.now)
        if let hub = context.alignment { alignment?.join(hub, waker: context.waker) }
        tick()
        let waker = context.waker
        let lookups = KafkaLookups(settings: settings) { waker.wake() }
        self.lookups = lookups
        lookups.ask(.connect)
        var enumerator = KafkaSplitEnumerator(
            settings: settings, subtask: context.subtask, parallelism: context.parallelism, restored: restored)
        restored = nil
        let effects = enumerator.start(now: context.clock.now)
        self.enumerator = enumerator
        try perform(effects)
    }

    /// Called at the start of each poll: takes answers, and asks what is due.
    @usableFromInline
    func prepare() throws {
        tick()
        guard let context, let lookups else { return }
        for answer in lookups.take() { try take(answer) }
        if let deadline = enumerator?.deadline, deadline <= context.clock.now { try tell(.tick) }
        commitIfDue()
    }

    private func tick() {
        guard let context else { return }
        clock.advance(to: context.clock.now.nanoseconds, backPressured: context.backPressuredNanoseconds?.value ?? 0)
    }

    func tell(_ event: KafkaSplitEnumerator.Event) throws {
        guard let context, enumerator != nil else { return }
        try perform(enumerator!.handle(event, now: context.clock.now))
    }

    private func take(_ answer: KafkaLookups.Answer) throws {
        switch answer {
        case .connected(let client):
            guard let waker = context?.waker else { return }
            consumer = try KafkaConsumerHandle(client: client, capacity: Self.batchMax) { waker.wake() }
            let reading = splits.filter { $0.phase == .reading }.map { ($0.position.split, offset: $0.position.next) }
            try consumer?.add(reading)
        case .event(let event): try tell(event)
        case .range(let partition, let result): try settleRange(partition, try result.get())
        case .ends(let ends):
            metrics?.isAskingForEnds = false
            for (partition, end) in ends {
                guard let split = splitOfPartition[partition] else { continue }
                splits[split].end = max(splits[split].end, end)
            }
        case .failure(let failure): throw failure
        }
    }

    private func perform(_ effects: [KafkaSplitEnumerator.Effect]) throws {
        var added: [(KafkaPartition, offset: Int64)] = []
        for effect in effects {
            switch effect {
            case .list(let known): lookups?.ask(.list(known: known))
            case .resolve(let resolutions): lookups?.ask(.resolve(resolutions))
            case .hold(let position): _ = put(position)
            case .read(let position):
                let split = put(position)
                guard !position.isFinished else {
                    finish(split)
                    continue
                }
                splits[split].phase = .reading
                added.append((position.split, offset: position.next))
            case .drop(let partitions): try drop(partitions)
            case .fail(let failure): throw failure
            case .warn(let text): log?.warn(text)
            case .countDiscoveryError: context?.counter("discoveryErrors").add(1)
            case .settled: isSettled = true
            }
        }
        if !added.isEmpty {
            forgetHandles()
            try consumer?.add(added)  // Without a consumer they are assigned once it is there.
        }
    }

    /// Keeps a position, at the place of the partition if it has one.
    private func put(_ position: KafkaPosition) -> Int {
        if let known = splitOfPartition[position.split] {
            splits[known].position = position
            return known
        }
        splits.append(Split(position: position))
        let number = watermarks.addSplit(greatest: position.greatest, now: clock.now)
        precondition(number == splits.count - 1, "splits and their watermarks are numbered alike")
        splitOfPartition[position.split] = number
        splits[number].gauges = metrics?.partition(position.split)
        return number
    }

    private func drop(_ partitions: [KafkaPartition]) throws {
        var read: [KafkaPartition] = []
        for partition in partitions {
            guard let split = splitOfPartition.removeValue(forKey: partition) else { continue }
            if splits[split].phase == .reading { read.append(partition) }
            splits[split].phase = .dropped
            alignment?.forget(split)
            watermarks.finish(split: split)
        }
        forgetHandles()
        try consumer?.remove(read)
    }

    // MARK: Offsets that are not there

    func leaveRange(_ split: Int) {
        guard splits[split].phase == .reading else { return }
        splits[split].phase = .waiting
        lookups?.ask(.range(splits[split].position.split))
    }

    /// - Throws: Which offset was wanted and which there are, unless the source may skip.
    private func settleRange(_ partition: KafkaPartition, _ range: Range<Int64>) throws {
        guard let split = splitOfPartition[partition], splits[split].phase == .waiting else { return }
        let wanted = splits[split].position.next
        var target = wanted
        if wanted == KafkaPosition.earliest || (range.lowerBound...range.upperBound).contains(wanted) {
            splits[split].falseAlarms += 1
            guard splits[split].falseAlarms <= Self.falseAlarmsMax else {
                throw JobFailure(
                    domain: .external, recovery: .restart,
                    message: "offset \(wanted) of \(partition) cannot be read, though the Kafka broker \(settings.bootstrap) has"
                        + " \(range.lowerBound) to \(range.upperBound)")
            }
        } else {
            switch settings.outOfRange {
            case .fail:
                throw JobFailure(
                    domain: .external, recovery: .fail,
                    message: "offset \(wanted) of \(partition), the next to read, is not on the Kafka broker \(settings.bootstrap), which has"
                        + " \(range.lowerBound) to \(range.upperBound): records were deleted, or the topic was made anew. Start from another"
                        + " position, or allow the source to skip with onOutOfRange")
            case .earliest: target = range.lowerBound
            case .latest: target = range.upperBound
            }
            let lost = max(0, target - wanted)
            context?.counter("recordsLost").add(Int(lost))
            log?.warn(
                "offset \(wanted) of \(partition) is not on the broker, which has \(range.lowerBound) to \(range.upperBound):"
                    + " goes on at \(target), \(lost) offsets are left out")
        }
        splits[split].position.next = target
        guard !splits[split].position.isFinished else { return finish(split) }
        splits[split].phase = .reading
        forgetHandles()
        try consumer?.move(partition, to: target)
    }

    @usableFromInline
    func close() {
        consumer = nil
        alignment?.leave()
        deadLetters?.close()
        lookups?.close(awaiting: commits.outstanding)
        lookups = nil
    }
}
