internal import Glibc
package import WeirBase

/// Whether a file is a program that this machine can run: asked before it travels to a cluster, and before a worker is spawned from it.
package enum ExecutableFile {
    /// Bytes from the start of a file that the check needs.
    package static let headerBytes = 20
    private static let machineNames: [UInt16: String] = [3: "x86 (32 bit)", 40: "ARM (32 bit)", 62: "x86_64", 183: "arm64", 243: "RISC-V"]

    /// In either byte order, and of programs for several machines.
    private static let machOMagics: [[UInt8]] = [[0xCF, 0xFA, 0xED, 0xFE], [0xFE, 0xED, 0xFA, 0xCF], [0xCA, 0xFE, 0xBA, 0xBE]]

    /// The ELF machine number of this host.
    package static var hostMachine: UInt16 {
        #if arch(arm64)
            183
        #elseif arch(x86_64)
            62
        #else
            0
        #endif
    }

    /// What is wrong with a file that starts with `bytes`, to follow its path in a sentence; nil if nothing is.
    package static func problem(with bytes: [UInt8], machine: UInt16 = hostMachine) -> String? {
        if bytes.isEmpty { return "is empty" }
        if bytes.starts(with: [0x23, 0x21]) { return "is a script (it starts with #!), not the job's program" }
        if machOMagics.contains(where: { bytes.starts(with: $0) }) { return "is a macOS program; the cluster runs Linux" }
        guard bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]) else { return "is not a Linux program (no ELF header)" }
        guard bytes.count >= headerBytes else { return "is cut short: its ELF header has only \(bytes.count) bytes" }
        guard bytes[4] == 2 else { return "is a 32-bit program; the cluster runs 64-bit ones" }
        guard bytes[5] == 1 else { return "is a big-endian program; the cluster runs little-endian ones" }
        let type = UInt16(bytes[16]) | UInt16(bytes[17]) << 8
        // 2: fixed addresses, 3: position-independent.
        guard type == 2 || type == 3 else { return "is an ELF file, but not a program (an object file or a core dump)" }
        let found = UInt16(bytes[18]) | UInt16(bytes[19]) << 8
        guard found == machine else { return "is built for \(name(found)); this machine and its cluster are \(name(machine))" }
        return nil
    }

    /// - Throws: `JobFailure` (configuration) that says what the file is instead, or (external) if it cannot be read.
    package static func check(_ path: String) throws(JobFailure) {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileFailure("open", path, errno).jobFailure(.fail) }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: headerBytes)
        let count = pread(file, &bytes, headerBytes, 0)
        guard count >= 0 else { throw FileFailure("read", path, errno).jobFailure(.fail) }
        if let problem = problem(with: Array(bytes[..<count])) {
            throw JobFailure(domain: .configuration, recovery: .fail, message: "\(path) \(problem)")
        }
    }

    private static func name(_ machine: UInt16) -> String { machineNames[machine] ?? "machine number \(machine)" }
}
