import Glibc
import Synchronization
import WeirBase

@testable import WeirStorage

/// A directory of its own for one test, removed with it.
final class TestDirectory: Sendable {
    let path: String
    init() {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/weir-storage-XXXXXX".utf8CString)
        precondition(mkdtemp(&template) != nil, "no temporary directory")
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit { try? FileSystem.removeTree(path) }
}

/// The system's files, with one failure at the n-th call of an operation.
final class FaultyFiles: StorageFiles {
    enum Call: String, CaseIterable { case makeDirectory, write, rename, syncDirectory, read, list, remove, create, touch }
    private struct Fault {
        var call: Call
        var code: Int32
        var skip: Int
        /// Leaves a file of this many bytes behind, as a full disk does.
        var tornBytes: Int?
    }
    private let fault = Mutex<Fault?>(nil)
    private let system = SystemFiles()

    func fail(_ call: Call, _ code: Int32, after skip: Int = 0, tornBytes: Int? = nil) {
        fault.withLock { $0 = Fault(call: call, code: code, skip: skip, tornBytes: tornBytes) }
    }

    private func check(_ call: Call, _ path: String, _ tear: (Int) throws(FileFailure) -> Void = { _ in }) throws(FileFailure) {
        let due = fault.withLock { fault -> Fault? in
            guard let current = fault, current.call == call else { return nil }
            guard current.skip == 0 else {
                fault!.skip -= 1
                return nil
            }
            fault = nil
            return current
        }
        guard let due else { return }
        if let torn = due.tornBytes { try tear(torn) }
        throw FileFailure(call.rawValue, path, due.code)
    }

    func makeDirectory(_ path: String) throws(FileFailure) {
        try check(.makeDirectory, path)
        try system.makeDirectory(path)
    }
    func write(_ path: String, _ parts: [UnsafeRawBufferPointer]) throws(FileFailure) {
        try check(.write, path) { (torn) throws(FileFailure) in
            let bytes = parts.flatMap { Array($0) }.prefix(torn)
            try withBytes(Array(bytes)) { (bytes) throws(FileFailure) in try system.write(path, [bytes]) }
        }
        try system.write(path, parts)
    }
    func rename(_ from: String, to: String) throws(FileFailure) {
        try check(.rename, to)
        try system.rename(from, to: to)
    }
    func syncDirectory(_ path: String) throws(FileFailure) {
        try check(.syncDirectory, path)
        try system.syncDirectory(path)
    }
    func read(_ path: String) throws(FileFailure) -> [UInt8] {
        try check(.read, path)
        return try system.read(path)
    }
    func list(_ path: String) throws(FileFailure) -> [String] {
        try check(.list, path)
        return try system.list(path)
    }
    func remove(_ path: String) throws(FileFailure) {
        try check(.remove, path)
        try system.remove(path)
    }
    func createExclusively(_ path: String) throws(FileFailure) {
        try check(.create, path)
        try system.createExclusively(path)
    }
    func touch(_ path: String) throws(FileFailure) {
        try check(.touch, path)
        try system.touch(path)
    }
}
