import Synchronization
import WeirBase

/// The plans of all schemas that records have named so far, found without a lock.
@usableFromInline
package final class AvroPlanCache: Sendable {
    /// Schemas of one format, at most: a producer that registers one a record would otherwise fill the memory.
    package static let schemasMax = 1_000

    /// Immutable once it is in the list.
    private final class Entry: Sendable {
        let key: UInt64
        let plan: Result<AvroPlan, FormatFailure>
        let next: Entry?

        init(key: UInt64, plan: Result<AvroPlan, FormatFailure>, next: Entry?) {
            self.key = key
            self.plan = plan
            self.next = next
        }
    }

    /// The newest entry, which retains the others. Only ever replaced by one in front of it: readers need no reference of their own.
    private let head = Atomic<Unmanaged<Entry>?>(nil)
    private let count = Mutex(0)

    package init() {}

    deinit {
        // One by one: the list's own end would be a recursion as deep as it is long.
        var entry = head.load(ordering: .relaxed)?.takeRetainedValue()
        while let next = entry?.next { entry = next }
    }

    /// The plan of a schema that was seen before, or nil.
    ///
    /// - Complexity: O(schemas seen since).
    /// - Throws: Why no row can be read of that schema.
    func find(_ key: UInt64) throws(FormatFailure) -> Unmanaged<AvroPlan>? {
        var next = head.load(ordering: .acquiring)
        while let entry = next {
            let (found, following) = entry._withUnsafeGuaranteedRef { entry in
                (
                    entry.key == key ? entry.plan.map { Unmanaged.passUnretained($0) } : nil,
                    entry.next.map { Unmanaged.passUnretained($0) }
                )
            }
            if let found { return try found.get() }
            next = following
        }
        return nil
    }

    /// Keeps the plan of a schema.
    ///
    /// - Throws: A `JobFailure` beyond ``schemasMax``.
    func add(_ key: UInt64, _ plan: Result<AvroPlan, FormatFailure>) throws {
        try count.withLock { count in
            guard try find(key) == nil else { return }
            guard count < Self.schemasMax else {
                throw JobFailure(
                    domain: .external, recovery: .fail, message: "records of more than \(Self.schemasMax) Avro schemas",
                    cause: "a producer that registers a new schema again and again?")
            }
            count += 1
            let old = head.load(ordering: .relaxed)?.takeRetainedValue()
            head.store(Unmanaged.passRetained(Entry(key: key, plan: plan, next: old)), ordering: .releasing)
        }
    }
}
