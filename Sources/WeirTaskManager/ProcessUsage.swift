internal import CWeirSystem
internal import Glibc

/// What this process takes.
struct ProcessUsage {
    var residentBytes: UInt64
    var cpuMs: UInt64

    static func current() -> ProcessUsage {
        ProcessUsage(residentBytes: residentBytes(), cpuMs: UInt64(max(0, weir_process_cpu_nanoseconds())) / 1_000_000)
    }

    /// The second number of /proc/self/statm, in pages; 0 where it cannot be read.
    private static func residentBytes() -> UInt64 {
        let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 128)
        let count = read(descriptor, &buffer, buffer.count)
        guard count > 0 else { return 0 }
        let numbers = String(decoding: buffer[..<count], as: UTF8.self).split(separator: " ")
        guard numbers.count > 1, let pages = UInt64(numbers[1]) else { return 0 }
        return pages * UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))
    }
}
