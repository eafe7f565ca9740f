internal import Glibc
internal import Synchronization
internal import WeirBase
package import WeirStorage

/// A file system in memory that goes wrong when told to, and that a power cut takes back to what was flushed.
///
/// Files are flushed by ``write(_:_:)``; a directory's entries by ``syncDirectory(_:)``. What was renamed or removed and not flushed comes back
/// at ``powerCut()``.
package final class FaultyStorage: StorageFiles {
    package enum Operation: String, CaseIterable, Sendable { case makeDirectory, write, rename, syncDirectory, read, list, remove, create, touch }

    package enum Fault: Sendable, Equatable {
        /// The call does nothing and fails.
        case error(Int32)
        /// A write leaves so many bytes and fails.
        case torn(bytes: Int, Int32)
        /// A write says that it is durable and is not: after a power cut the file has this many bytes less than written.
        case lost(bytes: Int)
        /// A read has this bit wrong, counted from the start, modulo the length.
        case flipped(bit: Int)
        /// A read gives what the path held before it was written last.
        case stale
        /// The call calls `pause` first, and is then done.
        case slow
        /// The power fails before the call: it and all that follow fail until ``powerCut()``.
        case powerCut
    }

    private struct Plan {
        var fault: Fault
        var operations: Set<Operation>
        var path: String
        var skip: Int
        var isLasting: Bool
    }

    private struct Content {
        var bytes: [UInt8]
        var previous: [UInt8]?
        /// Bytes at the end that a power cut takes.
        var lost = 0
    }

    private struct State {
        var directories: Set<String> = ["/"]
        var files: [String: Content] = [:]
        /// As a power cut leaves them.
        var durable: [String: Content] = [:]
        var plan: Plan?
        var isDown = false
        var calls = 0
    }

    private let state = Mutex(State())
    private let pause: @Sendable () -> Void

    package init(pause: @escaping @Sendable () -> Void = {}) { self.pause = pause }

    /// Calls so far: how many places there are at which something can go wrong.
    package var calls: Int { state.withLock { $0.calls } }

    /// All files, as a reader sees them.
    package var paths: [String] { state.withLock { $0.files.keys.sorted() } }

    /// Lets the call behind the next `skip` that match go wrong, or with `isLasting` it and all that follow.
    package func plan(
        _ fault: Fault, on operations: Set<Operation> = Set(Operation.allCases), path: String = "", after skip: Int = 0, isLasting: Bool = false
    ) {
        state.withLock { $0.plan = Plan(fault: fault, operations: operations, path: path, skip: skip, isLasting: isLasting) }
    }

    package func heal() { state.withLock { $0.plan = nil } }

    /// The machine starts again with what was flushed, and without faults.
    package func powerCut() {
        state.withLock { state in
            state.plan = nil
            state.isDown = false
            state.files = state.durable.mapValues { content in
                Content(bytes: Array(content.bytes.dropLast(content.lost)), previous: content.previous)
            }
            state.durable = state.files
        }
    }

    /// The fault that is due for a call; throws those that are errors.
    private func enter(_ operation: Operation, _ path: String) throws(FileFailure) -> Fault? {
        let fault = state.withLock { state -> Fault? in
            state.calls += 1
            if state.isDown { return .powerCut }
            guard var plan = state.plan, plan.operations.contains(operation), plan.path.isEmpty || path.contains(plan.path) else { return nil }
            guard plan.skip == 0 else {
                plan.skip -= 1
                state.plan = plan
                return nil
            }
            if !plan.isLasting { state.plan = nil }
            if plan.fault == .powerCut { state.isDown = true }
            return plan.fault
        }
        switch fault {
        case .error(let code): throw FileFailure(operation.rawValue, path, code)
        case .powerCut: throw FileFailure(operation.rawValue, path, ENODEV)
        case .slow: pause()
        default: break
        }
        return fault
    }

    package func makeDirectory(_ path: String) throws(FileFailure) {
        _ = try enter(.makeDirectory, path)
        state.withLock { state in
            var path = path[...]
            while !path.isEmpty {
                state.directories.insert(String(path))
                path = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
            }
        }
    }

    package func write(_ path: String, _ parts: [UnsafeRawBufferPointer]) throws(FileFailure) {
        let fault = try enter(.write, path)
        let bytes = parts.flatMap { [UInt8]($0) }
        let parent = Self.parent(path)
        let failure = state.withLock { state -> FileFailure? in
            guard state.directories.contains(parent) else { return FileFailure("create", path, ENOENT) }
            var content = Content(bytes: bytes, previous: state.files[path]?.bytes)
            defer {
                state.files[path] = content
                if state.durable[path] != nil { state.durable[path] = content }
            }
            switch fault {
            case .torn(let count, let code):
                content.bytes = Array(bytes.prefix(count))
                return FileFailure("write", path, code)
            case .lost(let count): content.lost = min(count, bytes.count)
            default: break
            }
            return nil
        }
        if let failure { throw failure }
    }

    package func rename(_ from: String, to: String) throws(FileFailure) {
        _ = try enter(.rename, to)
        let isThere = state.withLock { state -> Bool in
            guard var content = state.files.removeValue(forKey: from) else { return false }
            content.previous = state.files[to]?.bytes
            state.files[to] = content
            return true
        }
        guard isThere else { throw FileFailure("rename", from, ENOENT) }
    }

    package func syncDirectory(_ path: String) throws(FileFailure) {
        _ = try enter(.syncDirectory, path)
        let isThere = state.withLock { state -> Bool in
            guard state.directories.contains(path) else { return false }
            for name in Set(state.files.keys).union(state.durable.keys) where Self.parent(name) == path { state.durable[name] = state.files[name] }
            return true
        }
        guard isThere else { throw FileFailure("flush the directory", path, ENOENT) }
    }

    package func read(_ path: String) throws(FileFailure) -> [UInt8] {
        let fault = try enter(.read, path)
        guard let content = state.withLock({ $0.files[path] }) else { throw FileFailure("read", path, ENOENT) }
        switch fault {
        case .flipped(let bit):
            guard !content.bytes.isEmpty else { return [] }
            var bytes = content.bytes
            let place = bit % (bytes.count * 8)
            bytes[place / 8] ^= 1 << UInt8(place % 8)
            return bytes
        case .stale:
            guard let previous = content.previous else { throw FileFailure("read", path, ENOENT) }
            return previous
        default: return content.bytes
        }
    }

    package func list(_ path: String) throws(FileFailure) -> [String] {
        _ = try enter(.list, path)
        let names = state.withLock { state -> [String]? in
            guard state.directories.contains(path) else { return nil }
            return (Array(state.files.keys) + state.directories).filter { $0 != "/" && Self.parent($0) == path }
                .map { String($0.dropFirst(path == "/" ? 1 : path.utf8.count + 1)) }.sorted()
        }
        guard let names else { throw FileFailure("list", path, ENOENT) }
        return names
    }

    package func remove(_ path: String) throws(FileFailure) {
        _ = try enter(.remove, path)
        let isFull = state.withLock { state -> Bool in
            if state.files.removeValue(forKey: path) != nil { return false }
            guard state.directories.contains(path) else { return false }
            guard !state.files.keys.contains(where: { Self.parent($0) == path }), !state.directories.contains(where: { Self.parent($0) == path })
            else { return true }
            state.directories.remove(path)
            return false
        }
        if isFull { throw FileFailure("delete", path, ENOTEMPTY) }
    }

    package func createExclusively(_ path: String) throws(FileFailure) {
        _ = try enter(.create, path)
        let isFree = state.withLock { state -> Bool in
            guard state.files[path] == nil else { return false }
            state.files[path] = Content(bytes: [])
            return true
        }
        guard isFree else { throw FileFailure("create", path, EEXIST) }
    }

    package func touch(_ path: String) throws(FileFailure) {
        _ = try enter(.touch, path)
        guard state.withLock({ $0.files[path] != nil }) else { throw FileFailure("touch", path, ENOENT) }
    }

    private static func parent(_ path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }
}
