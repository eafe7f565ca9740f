/// Requests to the group coordinator; the notation is ``SchemaParser``'s.
let groupSchemas = """
    api FindCoordinator 10 versions 0-4 flexible 3
    request
      key string 0-3
      keyType int8 1+
      coordinatorKeys []string 4+
    response
      throttleTimeMs int32 1+
      errorCode int16 0-3
      errorMessage string? 1-3
      nodeId int32 0-3
      host string 0-3
      port int32 0-3
      coordinators [] 4+
        key string
        nodeId int32
        host string
        port int32
        errorCode int16
        errorMessage string?
    api JoinGroup 11 versions 0-9 flexible 6
    request
      groupId string
      sessionTimeoutMs int32
      rebalanceTimeoutMs int32 1+ = -1
      memberId string
      groupInstanceId string? 5+
      protocolType string
      protocols []
        name string
        metadata bytes
      reason string? 8+
    response
      throttleTimeMs int32 2+
      errorCode int16
      generationId int32 = -1
      protocolType string? 7+
      protocolName string null 7+
      leader string
      skipAssignment bool 9+
      memberId string
      members []
        memberId string
        groupInstanceId string? 5+
        metadata bytes
    api SyncGroup 14 versions 0-5 flexible 4
    request
      groupId string
      generationId int32
      memberId string
      groupInstanceId string? 3+
      protocolType string? 5+
      protocolName string? 5+
      assignments []
        memberId string
        assignment bytes
    response
      throttleTimeMs int32 1+
      errorCode int16
      protocolType string? 5+
      protocolName string? 5+
      assignment bytes
    api Heartbeat 12 versions 0-4 flexible 4
    request
      groupId string
      generationId int32
      memberId string
      groupInstanceId string? 3+
    response
      throttleTimeMs int32 1+
      errorCode int16
    api LeaveGroup 13 versions 0-5 flexible 4
    request
      groupId string
      memberId string 0-2
      members [] 3+
        memberId string
        groupInstanceId string?
        reason string? 5+
    response
      throttleTimeMs int32 1+
      errorCode int16
      members [] 3+
        memberId string
        groupInstanceId string?
        errorCode int16
    api DescribeGroups 15 versions 0-5 flexible 5
    request
      groups []string
      includeAuthorizedOperations bool 3+
    response
      throttleTimeMs int32 1+
      groups []
        errorCode int16
        groupId string
        groupState string
        protocolType string
        protocolData string
        members []
          memberId string
          groupInstanceId string? 4+
          clientId string
          clientHost string
          memberMetadata bytes
          memberAssignment bytes
        authorizedOperations int32 3+ = -2147483648
    api ListGroups 16 versions 0-5 flexible 3
    request
      statesFilter []string 4+
      typesFilter []string 5+
    response
      throttleTimeMs int32 1+
      errorCode int16
      groups []
        groupId string
        protocolType string
        groupState string 4+
        groupType string 5+
    api DeleteGroups 42 versions 0-2 flexible 2
    request
      groupsNames []string
    response
      throttleTimeMs int32
      results []
        groupId string
        errorCode int16
    api OffsetCommit 8 versions 2-8 flexible 8
    request
      groupId string
      generationIdOrMemberEpoch int32 = -1
      memberId string
      groupInstanceId string? 7+
      retentionTimeMs int64 2-4 = -1
      topics []
        name string
        partitions []
          partitionIndex int32
          committedOffset int64
          committedLeaderEpoch int32 6+ = -1
          committedMetadata string?
    response
      throttleTimeMs int32 3+
      topics []
        name string
        partitions []
          partitionIndex int32
          errorCode int16
    api OffsetFetch 9 versions 1-8 flexible 6
    request
      groupId string 0-7
      topics [] 0-7 null 2-7
        name string
        partitionIndexes []int32
      groups [] 8+
        groupId string
        topics []?
          name string
          partitionIndexes []int32
      requireStable bool 7+
    response
      throttleTimeMs int32 3+
      topics [] 0-7
        name string
        partitions []
          partitionIndex int32
          committedOffset int64
          committedLeaderEpoch int32 5+ = -1
          metadata string?
          errorCode int16
      errorCode int16 2-7
      groups [] 8+
        groupId string
        topics []
          name string
          partitions []
            partitionIndex int32
            committedOffset int64
            committedLeaderEpoch int32 = -1
            metadata string?
            errorCode int16
        errorCode int16
    api OffsetDelete 47 versions 0-0 flexible never
    request
      groupId string
      topics []
        name string
        partitions []
          partitionIndex int32
    response
      errorCode int16
      throttleTimeMs int32
      topics []
        name string
        partitions []
          partitionIndex int32
          errorCode int16
    """
