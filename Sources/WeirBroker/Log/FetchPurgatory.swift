import WeirKafkaWire
import WeirTransport

/// Fetches that found less than they want, and wait for more or for their time to end.
final class FetchPurgatory {
    /// A fetch that waits longer is answered with what there is: a client asks again, and one that is gone is noticed.
    private static let waitMilliseconds: Int64 = 300_000

    private final class Waiter {
        let fetch: FetchRequest
        let context: RequestContext
        /// Bytes that must arrive before another look is worth it.
        var missingBytes: Int
        var timer: TimerID?
        var isDue = false

        init(_ fetch: FetchRequest, _ context: RequestContext, missingBytes: Int) {
            self.fetch = fetch
            self.context = context
            self.missingBytes = missingBytes
        }
    }

    private struct PartitionName: Hashable {
        var topic: String
        var partition: Int32
    }

    private weak var broker: Broker?
    private var waiters: [PartitionName: [Waiter]] = [:]
    private var due: [Waiter] = []

    func start(_ broker: Broker) { self.broker = broker }

    /// Answers a fetch: now, if there is enough, or later.
    func answer(_ fetch: FetchRequest, _ context: RequestContext) {
        guard let broker else { return }
        let answer = fetch.answer(broker)
        guard !answer.isComplete, fetch.maxWaitMilliseconds > 0 else { return context.reply(answer.response) }
        let waiter = Waiter(fetch, context, missingBytes: fetch.minBytes - answer.bytes)
        for name in names(of: waiter) { waiters[name, default: []].append(waiter) }
        let wait = min(Int64(fetch.maxWaitMilliseconds), Self.waitMilliseconds)
        waiter.timer = broker.schedule(after: .milliseconds(wait)) { [unowned self] in
            waiter.timer = nil
            finish(waiter, waiter.fetch.answer(broker).response)
        }
    }

    /// Records came into a log: those that wait for them are looked at behind this round of requests.
    func arrived(_ bytes: Int, in log: PartitionLog) {
        guard let waiting = waiters[PartitionName(topic: log.topic, partition: log.partition)] else { return }
        for waiter in waiting {
            waiter.missingBytes -= bytes
            if waiter.missingBytes <= 0 { makeDue(waiter) }
        }
    }

    /// A topic is gone: those that wait for it are told.
    func deleted(_ topic: String) {
        for name in waiters.keys where name.topic == topic { waiters[name]?.forEach(makeDue) }
    }

    private func makeDue(_ waiter: Waiter) {
        guard !waiter.isDue else { return }
        waiter.isDue = true
        due.append(waiter)
        guard due.count == 1 else { return }
        broker?.afterRound { [unowned self] in lookAgain() }
    }

    private func lookAgain() {
        let looked = due
        due = []
        guard let broker else { return }
        for waiter in looked where waiter.timer != nil {
            waiter.isDue = false
            let answer = waiter.fetch.answer(broker)
            if answer.isComplete || !waiter.context.isOpen {
                finish(waiter, answer.response)
            } else {
                waiter.missingBytes = waiter.fetch.minBytes - answer.bytes
            }
        }
    }

    private func finish(_ waiter: Waiter, _ response: KafkaStruct) {
        if let timer = waiter.timer { broker?.cancel(timer) }
        waiter.timer = nil
        for name in names(of: waiter) {
            waiters[name]?.removeAll { $0 === waiter }
            if waiters[name]?.isEmpty == true { waiters[name] = nil }
        }
        waiter.context.reply(response)
    }

    private func names(of waiter: Waiter) -> Set<PartitionName> {
        Set(waiter.fetch.partitions.map { PartitionName(topic: $0.topic, partition: $0.partition) })
    }
}
