/// The schemas that a schema of a registry refers to, and those that they refer to: which to ask for next, and in which order to parse them.
///
/// A value: no I/O.
struct SchemaReferences {
    struct Reference: Hashable {
        var subject: String
        var version: Int64
    }

    /// Schemas behind one, at most.
    static let countMax = 200

    struct TooMany: Error {}

    private struct Frame {
        /// nil for the schema that all begins with.
        var text: String?
        var missing: [Reference]
    }

    private var frames: [Frame]
    private var seen: Set<Reference> = []
    /// Each behind those that it refers to.
    private(set) var texts: [String] = []

    init(_ references: [Reference]) { frames = [Frame(text: nil, missing: references.reversed())] }

    /// What to fetch next, and to tell to ``take(_:_:)``; nil once ``texts`` is complete.
    ///
    /// A schema that refers to itself in a circle is fetched once; parsing it then says what is missing.
    mutating func next() throws(TooMany) -> Reference? {
        while let top = frames.indices.last {
            guard let reference = frames[top].missing.popLast() else {
                if let text = frames.removeLast().text { texts.append(text) }
                continue
            }
            guard seen.insert(reference).inserted else { continue }
            guard seen.count <= Self.countMax else { throw TooMany() }
            return reference
        }
        return nil
    }

    mutating func take(_ text: String, _ references: [Reference]) { frames.append(Frame(text: text, missing: references.reversed())) }
}
