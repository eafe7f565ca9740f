/// What a connection begins with, as ``SchemaParser`` reads it.
///
/// From Kafka's message definitions (`clients/src/main/resources/common/message`): the layouts are facts of the protocol.
let sessionSchemas = """
    api ApiVersions 18 versions 0-3 flexible 3
    request
      clientSoftwareName string 3+
      clientSoftwareVersion string 3+
    response
      errorCode int16
      apiKeys []
        apiKey int16
        minVersion int16
        maxVersion int16
      throttleTimeMs int32 1+
      supportedFeatures [] 3+ tag 0
        name string
        minVersion int16
        maxVersion int16
      finalizedFeaturesEpoch int64 3+ tag 1 = -1
      finalizedFeatures [] 3+ tag 2
        name string
        maxVersionLevel int16
        minVersionLevel int16
    api SaslHandshake 17 versions 0-1 flexible never
    request
      mechanism string
    response
      errorCode int16
      mechanisms []string
    api SaslAuthenticate 36 versions 0-2 flexible 2
    request
      authBytes bytes
    response
      errorCode int16
      errorMessage string?
      authBytes bytes
      sessionLifetimeMs int64 1+
    """
