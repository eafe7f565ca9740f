internal import Glibc

/// Checks that a file is a program for this kind of machine before it travels to a cluster.
package enum ELFHeader {
    /// Bytes of the file that the check needs.
    package static let byteCount = 20

    /// Machine numbers of the ELF specification, with the names that people use.
    private static let machines: [UInt16: String] = [3: "x86 (32 bit)", 40: "ARM (32 bit)", 62: "x86_64", 183: "arm64", 243: "RISC-V"]

    /// The machine that this program was built for.
    package static var hostMachine: UInt16 {
        #if arch(arm64)
            183
        #else
            62
        #endif
    }

    /// What is wrong with a file that starts with `bytes`, as the end of "PATH …"; nil: nothing.
    package static func problem(with bytes: [UInt8], machine: UInt16 = hostMachine) -> String? {
        if bytes.starts(with: [0x23, 0x21]) { return "is a script (it starts with #!), not the job's program" }
        // Mach-O, either byte order, and universal binaries.
        if bytes.count >= 4, [[0xCF, 0xFA, 0xED, 0xFE], [0xFE, 0xED, 0xFA, 0xCF], [0xCA, 0xFE, 0xBA, 0xBE]].contains(Array(bytes[..<4])) {
            return "is a macOS program; the cluster runs Linux"
        }
        guard bytes.count >= 4, bytes[..<4] == [0x7F, 0x45, 0x4C, 0x46] else { return "is not a Linux program (no ELF header)" }
        guard bytes.count >= byteCount else { return "is cut short: its ELF header has only \(bytes.count) bytes" }
        guard bytes[4] == 2 else { return "is a 32-bit program; the cluster runs 64-bit ones" }
        guard bytes[5] == 1 else { return "is a big-endian program; the cluster runs little-endian ones" }
        let type = UInt16(bytes[16]) | UInt16(bytes[17]) << 8
        // 2: fixed addresses, 3: position-independent.
        guard type == 2 || type == 3 else { return "is an ELF file, but not a program (an object file or a core dump)" }
        let found = UInt16(bytes[18]) | UInt16(bytes[19]) << 8
        guard found == machine else {
            return "is built for \(name(of: found)); this machine and its cluster are \(name(of: machine))"
        }
        return nil
    }

    private static func name(of machine: UInt16) -> String { machines[machine] ?? "machine number \(machine)" }

    /// Checks a file: that it is there, can be executed and has a fitting header.
    package static func check(path: String) throws(CommandFailure) {
        let hint = "build the job with `swift build -c release` and give the path of its program, e.g. .build/release/MyJob"
        var status = stat()
        guard stat(path, &status) == 0 else { throw CommandFailure("cannot run \(path): \(errnoText())", hint: hint) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw CommandFailure("\(path) is not a file", hint: hint) }
        guard status.st_size > 0 else { throw CommandFailure("\(path) is empty", hint: hint) }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CommandFailure("cannot read \(path): \(errnoText())") }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: byteCount)
        let count = read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { throw CommandFailure("cannot read \(path): \(errnoText())") }
        if let problem = problem(with: Array(bytes[..<count])) { throw CommandFailure("\(path) \(problem)", hint: hint) }
        guard access(path, X_OK) == 0 else {
            throw CommandFailure("\(path) is not executable", hint: "chmod +x \(path)")
        }
    }
}
