import Foundation
import Testing
import WeirCLI

@Suite struct ELFHeaderTests {
    private func header(type: UInt8 = 3, machine: UInt16 = 62, bits: UInt8 = 2, order: UInt8 = 1) -> [UInt8] {
        [0x7F, 0x45, 0x4C, 0x46, bits, order, 1, 0] + [UInt8](repeating: 0, count: 8)
            + [type, 0, UInt8(machine & 0xFF), UInt8(machine >> 8)]
    }

    private func problem(_ bytes: [UInt8]) -> String? { ELFHeader.problem(with: bytes, machine: 62) }

    @Test func programsForThisMachinePass() {
        #expect(problem(header()) == nil)
        #expect(problem(header(type: 2)) == nil)
        #expect(ELFHeader.problem(with: header(machine: 183), machine: 183) == nil)
    }

    @Test func othersAreSaidInWords() {
        #expect(problem(Array("#!/bin/sh".utf8)) == "is a script (it starts with #!), not the job's program")
        #expect(problem(Array("hello".utf8)) == "is not a Linux program (no ELF header)")
        #expect(problem([0xCF, 0xFA, 0xED, 0xFE, 0, 0]) == "is a macOS program; the cluster runs Linux")
        #expect(problem([0x7F, 0x45]) == "is not a Linux program (no ELF header)")
        #expect(problem(Array(header()[..<10])) == "is cut short: its ELF header has only 10 bytes")
        #expect(problem(header(bits: 1)) == "is a 32-bit program; the cluster runs 64-bit ones")
        #expect(problem(header(order: 2)) == "is a big-endian program; the cluster runs little-endian ones")
        #expect(problem(header(type: 1)) == "is an ELF file, but not a program (an object file or a core dump)")
        #expect(problem(header(machine: 183)) == "is built for arm64; this machine and its cluster are x86_64")
        #expect(problem(header(machine: 9)) == "is built for machine number 9; this machine and its cluster are x86_64")
    }

    @Test func everyPrefixOfAHeaderIsJudgedWithoutATrap() {
        for count in 0..<20 { #expect(problem(Array(header()[..<count])) != nil) }
    }

    @Test func filesAreChecked() throws {
        let path = NSTemporaryDirectory() + "weir-elf-" + UUID().uuidString
        defer { try? FileManager.default.removeItem(atPath: path) }
        func message() -> String {
            do {
                try ELFHeader.check(path: path)
                return ""
            } catch { return error.message }
        }
        #expect(message() == "cannot run \(path): No such file or directory")
        #expect(FileManager.default.createFile(atPath: path, contents: Data()))
        #expect(message() == "\(path) is empty")
        try Data(header(machine: ELFHeader.hostMachine)).write(to: URL(filePath: path))
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        #expect(message() == "")
        try ELFHeader.check(path: "/proc/self/exe")
    }
}
