internal import Foundation

/// The processes of this machine, as the kernel lists them.
package enum ProcessTable {
    /// Those that run, or have ended without anyone having asked for it.
    package static func all() throws -> [(pid: Int32, parent: Int32)] {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { name in
            guard let pid = Int32(name), let fields = status(of: pid), let parent = Int32(fields[1]) else { return nil }
            return (pid, parent)
        }
    }

    /// The parent of a process; nil once it has ended.
    package static func parent(of pid: Int32) -> Int32? {
        guard let fields = status(of: pid), fields[0] != "Z" else { return nil }
        return Int32(fields[1])
    }

    /// What follows the name in the process's status line: its state, its parent and more.
    private static func status(of pid: Int32) -> [Substring]? {
        guard let line = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let fields = line.split(separator: ")").last?.split(separator: " "), fields.count > 1
        else { return nil }
        return fields
    }
}
