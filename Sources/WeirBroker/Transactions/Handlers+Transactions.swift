extension Broker {
    /// InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, ListTransactions, DescribeTransactions.
    func registerTransactionHandlers() {}
}
