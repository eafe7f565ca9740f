// What a job imports: the API, the formats and the connectors under one name.
@_exported public import WeirBase
@_exported public import WeirDataflow
@_exported public import WeirFiles
@_exported public import WeirFormats
@_exported public import WeirKafka
@_exported public import WeirStreams
