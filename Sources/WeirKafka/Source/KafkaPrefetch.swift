import WeirBase

/// Notices that librdkafka may have stopped fetching because its queue was full, and has room again.
///
/// A client that has `queued.min.messages` records, or `queued.max.messages.kbytes` of them, fetches no more. Whether there is room again it
/// looks only when something happens on the connection to the broker, else once a second: a job that was held up for a moment would go
/// through what was fetched, and then stand still. Any question to the broker makes it look.
struct KafkaPrefetch: Sendable {
    private let messagesMax: Int
    private let bytesMax: Int
    private var wasFull = false

    init(_ properties: KafkaProperties) {
        messagesMax = properties["queued.min.messages"].flatMap { Int($0) } ?? 100_000
        let kilobytes = properties["queued.max.messages.kbytes"].flatMap { Int($0) } ?? 65_536
        bytesMax = min(kilobytes, .max >> 10) << 10
    }

    /// - Parameters:
    ///   - queued: Records that were fetched and not taken.
    ///   - recordBytes: The mean size of a record: how many bytes are queued, librdkafka does not tell.
    /// - Returns: Whether a question should be asked now: once behind each time that the queue was full, when half of it is gone.
    mutating func needsQuestion(queued: Int, recordBytes: Int) -> Bool {
        let full = max(1, min(messagesMax, bytesMax / max(1, recordBytes)))
        if queued >= full - full / 8 {
            wasFull = true
        } else if wasFull, queued <= full / 2 {
            wasFull = false
            return true
        }
        return false
    }
}

extension KafkaReader {
    /// Keeps librdkafka fetching. Called after records were taken.
    func keepFetching(bytes: Int, records: Int) {
        guard records > 0, let queued = consumer?.queued, prefetch.needsQuestion(queued: queued, recordBytes: bytes / records) else { return }
        let reading = splits.filter { $0.phase == .reading && !$0.isPaused }.map(\.position.split)
        if !reading.isEmpty { lookups?.ask(.ends(reading)) }
    }
}
