/// How a partition's log is kept: the settings of its topic, by Kafka's names.
package struct LogConfiguration: Equatable, Sendable {
    package enum TimestampType: String, Sendable, CaseIterable {
        case createTime = "CreateTime"
        case logAppendTime = "LogAppendTime"
    }

    /// `segment.bytes`: a segment is closed before it grows past it; at least 1 KiB, at most `Int32.max`.
    package var segmentBytes = 256 << 20
    /// `segment.ms`: a segment is closed once its records span this time.
    package var segmentMilliseconds: Int64 = 7 * 86_400_000
    /// `retention.ms`: closed segments whose newest record is older are deleted; nil keeps them.
    package var retentionMilliseconds: Int64? = 7 * 86_400_000
    /// `retention.bytes`: the oldest segments are deleted while the others hold as much; nil keeps them.
    package var retentionBytes: Int?
    /// `max.message.bytes`: of a record batch.
    package var maxMessageBytes = 1_048_588
    /// `message.timestamp.type`.
    package var timestampType = TimestampType.createTime

    package init() {}
}
