/// Requests about the cluster and its topics; the notation is ``SchemaParser``'s.
let adminSchemas = """
    api Metadata 3 versions 0-12 flexible 9
    request
      topics [] null 1+
        topicId uuid 10+
        name string null 10+
      allowAutoTopicCreation bool 4+ = true
      includeClusterAuthorizedOperations bool 8-10
      includeTopicAuthorizedOperations bool 8+
    response
      throttleTimeMs int32 3+
      brokers []
        nodeId int32
        host string
        port int32
        rack string? 1+
      clusterId string? 2+
      controllerId int32 1+ = -1
      topics []
        errorCode int16
        name string null 12+
        topicId uuid 10+
        isInternal bool 1+
        partitions []
          errorCode int16
          partitionIndex int32
          leaderId int32
          leaderEpoch int32 7+ = -1
          replicaNodes []int32
          isrNodes []int32
          offlineReplicas []int32 5+
        topicAuthorizedOperations int32 8+ = -2147483648
      clusterAuthorizedOperations int32 8-10 = -2147483648
    api CreateTopics 19 versions 0-7 flexible 5
    request
      topics []
        name string
        numPartitions int32
        replicationFactor int16
        assignments []
          partitionIndex int32
          brokerIds []int32
        configs []
          name string
          value string?
      timeoutMs int32 = 60000
      validateOnly bool 1+
    response
      throttleTimeMs int32 2+
      topics []
        name string
        topicId uuid 7+
        errorCode int16
        errorMessage string? 1+
        topicConfigErrorCode int16 5+ tag 0
        numPartitions int32 5+ = -1
        replicationFactor int16 5+ = -1
        configs [] 5+ null 5+
          name string
          value string?
          readOnly bool
          configSource int8 = -1
          isSensitive bool
    api DeleteTopics 20 versions 0-6 flexible 4
    request
      topics [] 6+
        name string?
        topicId uuid
      topicNames []string 0-5
      timeoutMs int32
    response
      throttleTimeMs int32 1+
      responses []
        name string null 6+
        topicId uuid 6+
        errorCode int16
        errorMessage string? 5+
    api CreatePartitions 37 versions 0-3 flexible 2
    request
      topics []
        name string
        count int32
        assignments []?
          brokerIds []int32
      timeoutMs int32
      validateOnly bool
    response
      throttleTimeMs int32
      results []
        name string
        errorCode int16
        errorMessage string?
    api DescribeConfigs 32 versions 0-4 flexible 4
    request
      resources []
        resourceType int8
        resourceName string
        configurationKeys []string?
      includeSynonyms bool 1+
      includeDocumentation bool 3+
    response
      throttleTimeMs int32
      results []
        errorCode int16
        errorMessage string?
        resourceType int8
        resourceName string
        configs []
          name string
          value string?
          readOnly bool
          isDefault bool 0
          configSource int8 1+ = -1
          isSensitive bool
          synonyms [] 1+
            name string
            value string?
            source int8
          configType int8 3+
          documentation string? 3+
    api AlterConfigs 33 versions 0-2 flexible 2
    request
      resources []
        resourceType int8
        resourceName string
        configs []
          name string
          value string?
      validateOnly bool
    response
      throttleTimeMs int32
      responses []
        errorCode int16
        errorMessage string?
        resourceType int8
        resourceName string
    api IncrementalAlterConfigs 44 versions 0-1 flexible 1
    request
      resources []
        resourceType int8
        resourceName string
        configs []
          name string
          configOperation int8
          value string?
      validateOnly bool
    response
      throttleTimeMs int32
      responses []
        errorCode int16
        errorMessage string?
        resourceType int8
        resourceName string
    api DescribeCluster 60 versions 0-1 flexible 0
    request
      includeClusterAuthorizedOperations bool
      endpointType int8 1+ = 1
    response
      throttleTimeMs int32
      errorCode int16
      errorMessage string?
      endpointType int8 1+ = 1
      clusterId string
      controllerId int32 = -1
      brokers []
        brokerId int32
        host string
        port int32
        rack string?
      clusterAuthorizedOperations int32 = -2147483648
    """
