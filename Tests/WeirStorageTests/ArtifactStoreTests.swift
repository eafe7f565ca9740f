import Glibc
import Testing
import WeirBase

@testable import WeirStorage

struct ArtifactStoreTests {
    private let directory = TestDirectory()
    private let bytes = [UInt8]((0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })

    private func store() throws -> ArtifactStore { try ArtifactStore(directory: directory.path + "/artifacts") }

    private func hash(_ bytes: [UInt8]) throws -> String {
        let path = directory.path + "/hashed"
        try FileSystem.writeAtomically(bytes, to: path)
        return try ArtifactStore.sha256(ofFile: path)
    }

    private func refused(_ body: () throws -> Void) throws -> String {
        let failure = try #require(throws: JobFailure.self) { try body() }
        #expect(failure.domain == .configuration)
        return failure.message
    }

    @Test func theHashIsSHA256() throws {
        #expect(try hash(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    @Test func anUploadInPiecesIsVerifiedAndExecutable() throws {
        let store = try store()
        let sha = try hash(bytes)
        #expect(try store.begin(sha, sizeBytes: bytes.count) == .init(offset: 0, isComplete: false))
        for start in stride(from: 0, to: 9_000, by: 3_000) {
            #expect(
                try store.append(sha, offset: start, bytes: Array(bytes[start..<(start + 3_000)])) == .init(offset: start + 3_000, isComplete: false))
            #expect(try !store.contains(sha, sizeBytes: bytes.count))
        }
        #expect(try store.append(sha, offset: 9_000, bytes: Array(bytes[9_000...])) == .init(offset: 10_000, isComplete: true))
        #expect(try store.contains(sha, sizeBytes: bytes.count))
        #expect(try FileSystem.list(directory.path + "/artifacts") == [sha])
        var status = stat()
        #expect(stat(store.path(of: sha), &status) == 0)
        #expect(status.st_mode & 0o777 == 0o755)
        let piece = try store.read(sha, offset: 9_990, bytesMax: 100)
        #expect(piece.bytes == Array(bytes[9_990...]) && piece.total == 10_000)
        #expect(try store.read(sha, offset: 10_000, bytesMax: 100).bytes.isEmpty)
        // Asked for again, and a last piece whose answer was lost.
        #expect(try store.begin(sha, sizeBytes: bytes.count) == .init(offset: 10_000, isComplete: true))
        #expect(try store.append(sha, offset: 9_000, bytes: Array(bytes[9_000...])).isComplete)
        try store.delete(sha)
        #expect(try !store.contains(sha, sizeBytes: bytes.count))
    }

    @Test func anUploadGoesOnAfterARestartAndWithPiecesTwice() throws {
        let sha = try hash(bytes)
        do {
            let store = try store()
            _ = try store.begin(sha, sizeBytes: bytes.count)
            _ = try store.append(sha, offset: 0, bytes: Array(bytes[..<4_000]))
        }
        let store = try store()
        #expect(try refused { _ = try store.append(sha, offset: 4_000, bytes: [1]) }.contains("begin it again"))
        #expect(try store.begin(sha, sizeBytes: bytes.count).offset == 4_000)
        #expect(try store.append(sha, offset: 2_000, bytes: Array(bytes[2_000..<3_000])).offset == 4_000)
        #expect(try store.append(sha, offset: 3_000, bytes: Array(bytes[3_000...])).isComplete)
    }

    @Test func badRequestsAreRefusedInWords() throws {
        let store = try store()
        let sha = try hash(bytes)
        for name in ["", "../../etc/passwd", String(sha.dropLast()), sha.uppercased()] {
            #expect(try refused { _ = try store.begin(name, sizeBytes: 1) }.contains("no SHA-256"))
            #expect(try refused { _ = try store.read(name, offset: 0, bytesMax: 1) }.contains("no SHA-256"))
        }
        #expect(try refused { _ = try store.begin(sha, sizeBytes: 0) }.contains("0 bytes"))
        #expect(try refused { _ = try store.begin(sha, sizeBytes: .max) }.contains("are taken"))
        #expect(try refused { _ = try store.read(sha, offset: 0, bytesMax: 1) }.contains("no artifact"))
        _ = try store.begin(sha, sizeBytes: 100)
        #expect(try refused { _ = try store.append(sha, offset: 1, bytes: [1]) }.contains("starts at 0"))
        #expect(try refused { _ = try store.append(sha, offset: 0, bytes: bytes) }.contains("announced"))
        #expect(try refused { _ = try store.append(sha, offset: -1, bytes: []) }.contains("starts at 0"))
        #expect(try refused { _ = try store.append(sha, offset: .max, bytes: []) }.contains("starts at 0"))
    }

    @Test func otherContentsAreRefusedAndTheUploadStartsAnew() throws {
        let store = try store()
        let sha = try hash(bytes)
        var wrong = bytes
        wrong[5_000] ^= 1
        _ = try store.begin(sha, sizeBytes: bytes.count)
        #expect(try refused { _ = try store.append(sha, offset: 0, bytes: wrong) }.contains("upload again"))
        #expect(try FileSystem.list(directory.path + "/artifacts").isEmpty)
        #expect(try store.begin(sha, sizeBytes: bytes.count).offset == 0)
        #expect(try store.append(sha, offset: 0, bytes: bytes).isComplete)
    }
}

struct ExecutableFileTests {
    private let directory = TestDirectory()
    /// The start of a position-independent 64-bit program.
    private func header(class wordSize: UInt8 = 2, order: UInt8 = 1, type: UInt8 = 3, machine: UInt16 = ExecutableFile.hostMachine) -> [UInt8] {
        [0x7F, 0x45, 0x4C, 0x46, wordSize, order, 1] + [UInt8](repeating: 0, count: 9)
            + [type, 0, UInt8(machine & 0xFF), UInt8(machine >> 8)]
    }

    @Test func programsOfThisMachinePass() throws {
        #expect(ExecutableFile.problem(with: header()) == nil)
        #expect(ExecutableFile.problem(with: header(type: 2)) == nil)
        try ExecutableFile.check("/proc/self/exe")
    }

    @Test func everythingElseIsNamed() {
        func problem(_ bytes: [UInt8]) -> String? { ExecutableFile.problem(with: bytes, machine: 62) }
        #expect(problem([]) == "is empty")
        #expect(problem(Array("#!/bin/sh\n".utf8)) == "is a script (it starts with #!), not the job's program")
        #expect(problem(Array("hello, world".utf8)) == "is not a Linux program (no ELF header)")
        #expect(problem([0x7F, 0x45]) == "is not a Linux program (no ELF header)")
        #expect(problem([0xCF, 0xFA, 0xED, 0xFE, 0, 0]) == "is a macOS program; the cluster runs Linux")
        #expect(problem(Array(header()[..<10])) == "is cut short: its ELF header has only 10 bytes")
        #expect(problem(header(class: 1)) == "is a 32-bit program; the cluster runs 64-bit ones")
        #expect(problem(header(order: 2)) == "is a big-endian program; the cluster runs little-endian ones")
        #expect(problem(header(type: 1)) == "is an ELF file, but not a program (an object file or a core dump)")
        #expect(problem(header(machine: 183)) == "is built for arm64; this machine and its cluster are x86_64")
        #expect(problem(header(machine: 9)) == "is built for machine number 9; this machine and its cluster are x86_64")
        #expect(ExecutableFile.problem(with: header(machine: 183), machine: 183) == nil)
    }

    @Test func everyPrefixOfAHeaderIsJudgedWithoutATrap() {
        for count in 0..<20 { #expect(ExecutableFile.problem(with: Array(header()[..<count])) != nil) }
    }

    @Test func theFileIsNamed() throws {
        let path = directory.path + "/job"
        try FileSystem.writeAtomically(Array("#!/bin/sh".utf8), to: path)
        let failure = try #require(throws: JobFailure.self) { try ExecutableFile.check(path) }
        #expect(failure.message.hasPrefix(path))
        #expect(failure.domain == .configuration)
        let missing = try #require(throws: JobFailure.self) { try ExecutableFile.check(path + "x") }
        #expect(missing.cause == "No such file or directory")
    }
}

struct FileSystemTests {
    @Test func treesAreMadeAndRemovedWithoutFollowingLinks() throws {
        let directory = TestDirectory()
        try FileSystem.createDirectory(directory.path + "/a/b/c")
        try FileSystem.createDirectory(directory.path + "/a/b/c")
        try FileSystem.createDirectory(directory.path + "/other")
        try FileSystem.writeAtomically([1], to: directory.path + "/other/kept")
        #expect(symlink(directory.path + "/other", directory.path + "/a/b/link") == 0)
        try FileSystem.writeAtomically([1, 2], to: directory.path + "/a/b/c/file")
        try FileSystem.removeEmptyDirectory(directory.path + "/a")
        #expect(FileSystem.exists(directory.path + "/a"))
        try FileSystem.removeTree(directory.path + "/a")
        #expect(try FileSystem.list(directory.path) == ["other"])
        #expect(try FileSystem.read(directory.path + "/other/kept") == [1])
        try FileSystem.removeTree(directory.path + "/a")
        try FileSystem.remove(directory.path + "/none")
    }

    @Test func whatIsAbove() {
        #expect(parentDirectory("/a/b") == "/a")
        #expect(parentDirectory("/a/b/") == "/a")
        #expect(parentDirectory("/a") == "/")
        #expect(parentDirectory("/") == nil)
        #expect(parentDirectory("a") == ".")
        #expect(parentDirectory(".") == nil)
    }
}
