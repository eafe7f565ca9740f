package import WeirBase
package import WeirKafkaWire

/// Requests with their repetitions.
extension TransactionClient {
    /// Commits a prepared transaction, or finds out what became of it.
    ///
    /// - Parameters:
    ///   - patience: When it is over, the outcome is unknown.
    ///   - pause: Waits for so long, and may return early when the patience is over.
    package func resolve(
        _ transaction: PreparedTransaction, _ patience: KafkaPatience, pause: (Duration) -> Void
    ) -> TransactionOutcome {
        var resolution = TransactionResolution(transaction, giveUpAt: patience.deadline)
        while true {
            let answer: TransactionResolution.Answer
            do throws(KafkaClientFailure) {
                switch resolution.step {
                case .done(let outcome): return outcome
                case .wait(let duration):
                    guard !patience.isCanceled() else {
                        return .unknown(
                            JobFailure(
                                domain: .external, recovery: .restart,
                                message: "the commit of transaction \(transaction.id) was given up with its task"))
                    }
                    pause(duration)
                    answer = .waited
                case .fetchMarker(let stable):
                    answer = try fetchMarker(transaction.id, topic: transaction.markerTopic, stable: stable, asked(patience))
                case .endTransaction:
                    answer = .ended(try endTransaction(transaction.id, transaction.session, commit: true, asked(patience)))
                }
            } catch {
                answer = .unreachable(error.description)
            }
            resolution.handle(answer, now: patience.clock.now)
        }
    }

    /// A transaction may be past its time already, and yet be asked about once.
    private func asked(_ patience: KafkaPatience) -> KafkaPatience {
        var once = patience
        once.deadline = max(patience.deadline, patience.clock.now.advanced(by: Self.requestTimeout))
        return once
    }

    /// Initialises an id, however long the coordinator needs for what was open there.
    ///
    /// - Throws: A failure in words when the patience is over, or when it is forbidden.
    package func fence(
        _ id: TransactionalID, timeoutMilliseconds: Int64, _ patience: KafkaPatience, pause: (Duration) -> Void
    ) throws(JobFailure) -> ProducerSession {
        var backoff = TransactionResolution.backoffFirst
        while true {
            let reason: String
            var refusal: JobFailure?
            do throws(KafkaClientFailure) {
                switch try initialise(id, timeoutMilliseconds: timeoutMilliseconds, patience) {
                case .success(let session): return session
                case .failure(let code):
                    refusal = Self.refusal(of: id, code, timeoutMilliseconds: timeoutMilliseconds)
                    reason = TransactionResolution.describe(code)
                }
            } catch {
                reason = error.description
            }
            if let refusal { throw refusal }
            guard !patience.isOver else {
                throw JobFailure(
                    domain: .external, recovery: .restart, message: "the transactional id \(id) could not be initialised in time", cause: reason)
            }
            pause(min(backoff, patience.remaining))
            backoff = min(backoff * 2, TransactionResolution.backoffMax)
        }
    }

    /// Aborts what a session has open, if it still holds its id; it cannot open anything afterwards. Gives up when the patience is over.
    package func shutOut(
        _ session: ProducerSession, of id: TransactionalID, timeoutMilliseconds: Int64, _ patience: KafkaPatience, pause: (Duration) -> Void
    ) {
        while !patience.isOver {
            do throws(KafkaClientFailure) {
                guard case .failure(let code) = try initialise(id, timeoutMilliseconds: timeoutMilliseconds, expected: session, patience),
                    [.concurrentTransactions, .coordinatorNotAvailable, .notCoordinator, .coordinatorLoadInProgress].contains(code)
                else { return }
            } catch {}  // A connection that broke: asked again.
            pause(min(TransactionResolution.backoffFirst, patience.remaining))
        }
    }

    /// What no repetition helps against, in words.
    package static func refusal(of id: TransactionalID, _ code: KafkaErrorCode, timeoutMilliseconds: Int64) -> JobFailure? {
        switch code {
        case .invalidTransactionTimeout:
            JobFailure(
                domain: .configuration, recovery: .fail,
                message: "the broker refuses a transaction.timeout.ms of \(timeoutMilliseconds): its transaction.max.timeout.ms is lower (15"
                    + " minutes unless it was changed)", cause: "lower the sink's property, or raise the broker's")
        case .transactionalIDAuthorizationFailed, .clusterAuthorizationFailed:
            JobFailure(
                domain: .external, recovery: .fail, message: "the transactional id \(id) may not be used",
                cause: "allow the sink's user to write the transactional id (all ids with the prefix \"\(id.prefix)\"): "
                    + TransactionResolution.describe(code))
        default: nil
        }
    }
}
