import WeirBase
import WeirKafkaTransactions
import WeirStreams

/// What a sink checks when its job is submitted, before anything is deployed.
struct KafkaSinkPreflight {
    private static let intervalOption = "execution.checkpointing.interval"
    /// How long a restart may take before transactions expire, for the warning: detection, delay, deployment, recovery.
    private static let restartBudget = Duration.seconds(60)

    private let declared: KafkaSinkSettings
    private let setup: PreflightSetup

    init(_ settings: KafkaSinkSettings, _ setup: PreflightSetup) {
        declared = settings
        self.setup = setup
    }

    func findings() -> [PreflightFinding] {
        let settings: KafkaSinkSettings
        do throws(ConfigurationError) {
            settings = try declared.configured(by: setup.settings, uid: setup.uid)
        } catch {
            return error.problems.map { PreflightFinding(.error, $0) }
        }
        var findings = settings.delivery == .exactlyOnce ? checkTimeout(settings) : []
        do throws(JobFailure) {
            let producer = try KafkaProducer(
                properties: settings.properties, transactionalID: nil, timeoutMilliseconds: 0, purpose: settings.purpose(nil))
            _ = try producer.partitionCount(of: settings.topic, timeout: settings.lookupTimeout, missing: .fail)
        } catch {
            return findings + [PreflightFinding(.error, error.cause.map { "\(error.message) (\($0))" } ?? error.message)]
        }
        if settings.delivery == .exactlyOnce { findings += checkBroker(settings) }
        return findings
    }

    /// The time-out against the interval of checkpoints.
    func checkTimeout(_ settings: KafkaSinkSettings) -> [PreflightFinding] {
        let timeout = Duration.milliseconds(settings.transactionTimeoutMilliseconds)
        guard let text = setup.settings[Self.intervalOption] else { return [] }  // The cluster's own interval is not known here.
        guard let interval = parseDuration(text), interval > .zero else {
            return [
                PreflightFinding(
                    .error,
                    "an exactly-once sink shows its rows when a checkpoint completes, and checkpoints are off: set \(Self.intervalOption)")
            ]
        }
        guard timeout < interval + Self.restartBudget else { return [] }
        let message =
            "the Kafka property transaction.timeout.ms is \(settings.transactionTimeoutMilliseconds), and checkpoints come every"
            + " \(formatDuration(interval)): a restart that takes longer than what is left loses the transaction, and the job then fails. Set it to at"
            + " least \((interval + Self.restartBudget).inMilliseconds), up to the broker's transaction.max.timeout.ms"
        return [PreflightFinding(timeout <= interval ? .error : .warning, message)]
    }

    /// Who else uses the prefix, and whether the broker allows the time-out.
    private func checkBroker(_ settings: KafkaSinkSettings) -> [PreflightFinding] {
        let clock = PreflightClock()
        let patience = KafkaPatience(clock: clock, deadline: clock.now.advanced(by: settings.lookupTimeout))
        var findings: [PreflightFinding] = []
        do throws(KafkaClientFailure) {
            let client = try TransactionClient(bootstrap: settings.bootstrap)
            defer { client.close() }
            if let maximum = try client.transactionTimeoutMax(patience), settings.transactionTimeoutMilliseconds > maximum {
                findings.append(
                    PreflightFinding(
                        .error,
                        "the Kafka property transaction.timeout.ms is \(settings.transactionTimeoutMilliseconds), and the broker allows up to \(maximum)"
                            + " (transaction.max.timeout.ms): lower the one or raise the other"))
            }
            let open = try client.listTransactions(patience)?.filter { $0.state == "Ongoing" }.compactMap {
                TransactionalID($0.name, prefix: settings.prefix ?? "")
            }
            if let open, !open.isEmpty {
                findings.append(
                    PreflightFinding(
                        .warning,
                        "\(open.count) transactions of the prefix \"\(settings.prefix ?? "")\" are open, of another running job or of one that has ended: this"
                            + " job will abort those that its checkpoint does not name"))
            }
        } catch {
            findings.append(PreflightFinding(.warning, "transactions could not be looked up: \(error)"))
        }
        return findings
    }
}

/// The present time, where no slot lends its clock.
private struct PreflightClock: WeirClock {
    private let origin = ContinuousClock.now
    var now: Instant { Instant(nanoseconds: origin.duration(to: .now).inNanoseconds) }
    var wallTime: WallTime { WallTime(milliseconds: now.nanoseconds / 1_000_000) }
}
