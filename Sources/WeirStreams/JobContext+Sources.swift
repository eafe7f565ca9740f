internal import WeirDataflow
internal import WeirBase
internal import WeirGraph

extension JobContext {
    /// Adds a source.
    ///
    ///     try job.source(.kafka(bootstrap, topics: ["readings"], format: .json(Reading.self)),
    ///                    watermarks: .boundedOutOfOrderness(.seconds(5), timestamp: \.timestamp), uid: "readings")
    ///
    /// - Parameters:
    ///   - descriptor: Where rows come from.
    ///   - watermarks: How rows get their event time. Windows need a strategy that generates watermarks.
    ///   - uid: Names the source for ever: its positions are found by it when the job is restored.
    /// - Throws: If the graph has too many operators. What is wrong with the descriptor is told with all other problems of the job,
    ///   once it is defined.
    public func source<Source: StreamSourceDescriptor>(
        _ descriptor: Source, watermarks: WatermarkStrategy<Source.Row> = .none, uid: String? = nil, file: StaticString = #fileID,
        line: Int = #line
    ) throws -> DataStream<Source.Row> {
        let place = Place(file, line)
        guard hasRoom else { throw ConfigurationError(["\(place): more than \(StreamGraph.nodesMax) operators in one job"]) }
        let code = OperatorCode<Source.Row> { uid, name, output in
            try descriptor.makeSource(SourceSetup(uid: uid, name: name, watermarks: watermarks, output: output))
        }
        let node = add(
            NodeDescription(
                operation: "source", uid: uid, name: descriptor.name, kind: .source, inputs: [], place: place,
                signature: "-> \(Source.Row.self)", rowType: "\(Source.Row.self)", code: code, parallelismMax: descriptor.parallelismMax,
                generatesWatermarks: watermarks.generatesWatermarks, validate: { try descriptor.validate() },
                claims: { descriptor.claims }, preflight: { descriptor.preflight($0) }))
        return DataStream(job: self, node: node)
    }
}
