/// Requests to the transaction coordinator; the notation is ``SchemaParser``'s.
let transactionSchemas = """
    api InitProducerId 22 versions 0-4 flexible 2
    request
      transactionalId string?
      transactionTimeoutMs int32
      producerId int64 3+ = -1
      producerEpoch int16 3+ = -1
    response
      throttleTimeMs int32
      errorCode int16
      producerId int64 = -1
      producerEpoch int16
    api AddPartitionsToTxn 24 versions 0-3 flexible 3
    request
      transactionalId string
      producerId int64
      producerEpoch int16
      topics []
        name string
        partitions []int32
    response
      throttleTimeMs int32
      resultsByTopic []
        name string
        resultsByPartition []
          partitionIndex int32
          partitionErrorCode int16
    api AddOffsetsToTxn 25 versions 0-3 flexible 3
    request
      transactionalId string
      producerId int64
      producerEpoch int16
      groupId string
    response
      throttleTimeMs int32
      errorCode int16
    api EndTxn 26 versions 0-3 flexible 3
    request
      transactionalId string
      producerId int64
      producerEpoch int16
      committed bool
    response
      throttleTimeMs int32
      errorCode int16
    api TxnOffsetCommit 28 versions 0-3 flexible 3
    request
      transactionalId string
      groupId string
      producerId int64
      producerEpoch int16
      generationId int32 3+ = -1
      memberId string 3+
      groupInstanceId string? 3+
      topics []
        name string
        partitions []
          partitionIndex int32
          committedOffset int64
          committedLeaderEpoch int32 2+ = -1
          committedMetadata string?
    response
      throttleTimeMs int32
      topics []
        name string
        partitions []
          partitionIndex int32
          errorCode int16
    api ListTransactions 66 versions 0-1 flexible 0
    request
      stateFilters []string
      producerIdFilters []int64
      durationFilter int64 1+ = -1
    response
      throttleTimeMs int32
      errorCode int16
      unknownStateFilters []string
      transactionStates []
        transactionalId string
        producerId int64
        transactionState string
    api DescribeTransactions 65 versions 0-0 flexible 0
    request
      transactionalIds []string
    response
      throttleTimeMs int32
      transactionStates []
        errorCode int16
        transactionalId string
        transactionState string
        transactionTimeoutMs int32
        transactionStartTimeMs int64
        producerId int64
        producerEpoch int16
        topics []
          topic string
          partitions []int32
    """
