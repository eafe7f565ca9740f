import WeirBase

/// Kafka's settings of transactions, under Kafka's names, and this broker's limits.
package struct TransactionOptions: Sendable, Equatable {
    /// `transaction.max.timeout.ms`: the longest timeout that a producer may ask for.
    package var timeoutMax = Duration.seconds(900)
    /// `transactional.id.expiration.ms`: an id without a transaction is forgotten this long after its last use.
    package var transactionalIDExpiration = Duration.seconds(7 * 86_400)
    /// Transactional ids beyond which no new one is taken.
    package var transactionalIDsMax = 10_000
    /// Partitions and groups of one transaction.
    package var partitionsMax = 10_000
    /// Bytes of their names: they become one record of the journal.
    package var namesBytesMax = 16 << 20

    package init() {}
}
