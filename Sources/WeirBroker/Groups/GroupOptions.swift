import WeirBase

/// Kafka's settings of groups, under Kafka's names, and this broker's limits.
package struct GroupOptions: Sendable, Equatable {
    /// `group.min.session.timeout.ms`.
    package var sessionTimeoutMin = Duration.seconds(6)
    /// `group.max.session.timeout.ms`.
    package var sessionTimeoutMax = Duration.seconds(1_800)
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members than the first. Kafka waits 3 s; tests do not want to.
    package var initialRebalanceDelay = Duration.zero
    /// `group.max.size`.
    package var membersMax = 1_000
    /// Groups with members or offsets, beyond which no new one is made.
    package var groupsMax = 10_000
    /// Bytes that a group's members may have of ids, metadata and assignments together: they become one record of the journal.
    package var memberBytesMax = 64 << 20
    /// Bytes of topics and metadata in one commit of offsets, for the same reason.
    package var commitBytesMax = 64 << 20
    /// `offset.metadata.max.bytes`.
    package var offsetMetadataBytesMax = 4_096
    /// `offsets.retention.minutes`, here in any unit.
    package var offsetsRetention = Duration.seconds(7 * 86_400)
    /// `offsets.retention.check.interval.ms`.
    package var offsetsRetentionCheckInterval = Duration.seconds(600)

    package init() {}
}
