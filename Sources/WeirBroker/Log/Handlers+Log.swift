extension Broker {
    /// Produce, Fetch, ListOffsets, DeleteRecords, DescribeProducers.
    func registerLogHandlers() {}
}
