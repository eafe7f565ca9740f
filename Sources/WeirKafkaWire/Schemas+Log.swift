/// Requests to the logs of partitions; the notation is ``SchemaParser``'s.
let logSchemas = """
    api Produce 0 versions 3-10 flexible 9
    request
      transactionalId string?
      acks int16
      timeoutMs int32
      topicData []
        name string
        partitionData []
          index int32
          records records?
    response
      responses []
        name string
        partitionResponses []
          index int32
          errorCode int16
          baseOffset int64
          logAppendTimeMs int64 = -1
          logStartOffset int64 5+ = -1
          recordErrors [] 8+
            batchIndex int32
            batchIndexErrorMessage string?
          errorMessage string? 8+
          currentLeader {} 10+ tag 0
            leaderId int32 = -1
            leaderEpoch int32 = -1
      throttleTimeMs int32
      nodeEndpoints [] 10+ tag 0
        nodeId int32
        host string
        port int32
        rack string?
    api Fetch 1 versions 4-12 flexible 12
    request
      clusterId string? 12+ tag 0
      replicaId int32 = -1
      maxWaitMs int32
      minBytes int32
      maxBytes int32 = 2147483647
      isolationLevel int8
      sessionId int32 7+
      sessionEpoch int32 7+ = -1
      topics []
        topic string
        partitions []
          partition int32
          currentLeaderEpoch int32 9+ = -1
          fetchOffset int64
          lastFetchedEpoch int32 12+ = -1
          logStartOffset int64 5+ = -1
          partitionMaxBytes int32
      forgottenTopicsData [] 7+
        topic string
        partitions []int32
      rackId string 11+
    response
      throttleTimeMs int32
      errorCode int16 7+
      sessionId int32 7+
      responses []
        topic string
        partitions []
          partitionIndex int32
          errorCode int16
          highWatermark int64
          lastStableOffset int64 = -1
          logStartOffset int64 5+ = -1
          divergingEpoch {} 12+ tag 0
            epoch int32 = -1
            endOffset int64 = -1
          currentLeader {} 12+ tag 1
            leaderId int32 = -1
            leaderEpoch int32 = -1
          snapshotId {} 12+ tag 2
            endOffset int64 = -1
            epoch int32 = -1
          abortedTransactions [] null 0+
            producerId int64
            firstOffset int64
          preferredReadReplica int32 11+ = -1
          records records?
    api ListOffsets 2 versions 1-7 flexible 6
    request
      replicaId int32 = -1
      isolationLevel int8 2+
      topics []
        name string
        partitions []
          partitionIndex int32
          currentLeaderEpoch int32 4+ = -1
          timestamp int64
    response
      throttleTimeMs int32 2+
      topics []
        name string
        partitions []
          partitionIndex int32
          errorCode int16
          timestamp int64 = -1
          offset int64 = -1
          leaderEpoch int32 4+ = -1
    api DeleteRecords 21 versions 0-2 flexible 2
    request
      topics []
        name string
        partitions []
          partitionIndex int32
          offset int64
      timeoutMs int32
    response
      throttleTimeMs int32
      topics []
        name string
        partitions []
          partitionIndex int32
          lowWatermark int64
          errorCode int16
    api DescribeProducers 61 versions 0-0 flexible 0
    request
      topics []
        name string
        partitionIndexes []int32
    response
      throttleTimeMs int32
      topics []
        name string
        partitions []
          partitionIndex int32
          errorCode int16
          errorMessage string?
          activeProducers []
            producerId int64
            producerEpoch int32
            lastSequence int32 = -1
            lastTimestamp int64 = -1
            coordinatorEpoch int32
            currentTxnStartOffset int64 = -1
    """
