import Dispatch
import Synchronization
import WeirBase

/// Asks the broker for one source subtask, on a thread that may wait; the slot's thread takes the answers from a mailbox.
///
/// Questions are asked one after the other, in their order.
final class KafkaLookups: Sendable {
    enum Question: Sendable {
        /// Make the client. Asked first, and once.
        case connect
        case list(known: [String])
        case resolve([KafkaResolution])
        /// What the broker has of a partition whose next offset it has not.
        case range(KafkaPartition)
        /// The ends of partitions, for the lag.
        case ends([KafkaPartition])
    }

    enum Answer: Sendable {
        case connected(KafkaClient)
        case event(KafkaSplitEnumerator.Event)
        case range(KafkaPartition, Result<Range<Int64>, JobFailure>)
        case ends([KafkaPartition: Int64])
        case failure(JobFailure)
    }

    /// How long answers to the last commits are waited for when a source closes.
    private static let farewellMilliseconds = 1_000

    private let settings: KafkaSourceSettings
    private let queue = DispatchQueue(label: "weir.kafka.lookups")
    private let wake: @Sendable () -> Void
    private let hasMail = Atomic<Bool>(false)
    private let isClosed = Atomic<Bool>(false)
    private let mailbox = Mutex<[Answer]>([])
    /// Used on the queue only; a lock because a class must say so.
    private let client = Mutex<KafkaClient?>(nil)

    /// - Parameter wake: Called from any thread when there is an answer.
    init(settings: KafkaSourceSettings, wake: @escaping @Sendable () -> Void) {
        self.settings = settings
        self.wake = wake
    }

    func ask(_ question: Question) {
        queue.async { [self] in
            guard !isClosed.load(ordering: .relaxed), let answer = answer(question) else { return }
            mailbox.withLock { $0.append(answer) }
            hasMail.store(true, ordering: .releasing)
            wake()
        }
    }

    /// The answers since the last call, in order. Cheap where there are none.
    func take() -> [Answer] {
        guard hasMail.load(ordering: .relaxed) else { return [] }
        guard hasMail.exchange(false, ordering: .acquiring) else { return [] }
        return mailbox.withLock { mailbox in
            let answers = mailbox
            mailbox = []
            return answers
        }
    }

    /// Asks no more, and ends the client once commits that are on their way were answered. Returns at once.
    ///
    /// - Parameter commits: How many answers are outstanding.
    func close(awaiting commits: Int) {
        isClosed.store(true, ordering: .relaxed)
        queue.async { [self] in
            mailbox.withLock { $0 = [] }  // An answer may hold the client.
            guard let last = client.withLock({ $0.take() }) else { return }
            var outstanding = commits
            var waited = 0
            while outstanding > 0, waited < Self.farewellMilliseconds {
                last.serveEvents(waitMilliseconds: 20)
                waited += 20
                let answered = last.events.takeCommits()
                outstanding -= answered.succeeded + answered.failed
            }
        }
    }

    private func answer(_ question: Question) -> Answer? {
        if case .connect = question { return connect() }
        guard let client = client.withLock({ $0 }) else { return nil }  // It could not be made, which was said.
        switch question {
        case .connect: return nil
        case .list(let known): return .event(list(client, known: known))
        case .resolve(let resolutions): return .event(resolve(client, resolutions))
        case .range(let partition):
            return .range(
                partition,
                Result { () throws(JobFailure) in try client.range(of: partition, timeout: settings.lookupTimeout) })
        case .ends(let partitions):
            // Only for the lag: where it cannot be looked up, the last answer stays.
            let ends = try? client.offsets(at: partitions.map { ($0, offset: KafkaPosition.latest) }, timeout: settings.lookupTimeout)
            return .ends(ends ?? [:])
        }
    }

    private func connect() -> Answer {
        do throws(JobFailure) {
            let made = try KafkaClient(consumer: settings.clientProperties, purpose: "reading \(settings.subscription.description)")
            client.withLock { $0 = made }
            return .connected(made)
        } catch {
            return .failure(error)
        }
    }

    private func list(_ client: KafkaClient, known: [String]) -> KafkaSplitEnumerator.Event {
        do throws(JobFailure) {
            switch settings.subscription {
            case .pattern(let pattern):
                return .listed(try client.list(pattern: KafkaTopicPattern(pattern), known: known, timeout: settings.lookupTimeout))
            case .topics, .partitions:
                return .listed(try client.list(topics: settings.subscription.topicNames ?? [], timeout: settings.lookupTimeout))
            }
        } catch {
            return .listingFailed(error)
        }
    }

    private func resolve(_ client: KafkaClient, _ resolutions: [KafkaResolution]) -> KafkaSplitEnumerator.Event {
        do throws(JobFailure) {
            return .resolved(try KafkaResolver(settings: settings, catalog: client).resolve(resolutions), failure: nil)
        } catch {
            return .resolved([], failure: error)
        }
    }
}
