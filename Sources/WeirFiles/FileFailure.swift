import Glibc
import WeirBase

/// What the system says about an error number.
func systemText(_ code: Int32) -> String { String(cString: strerror(code)) }

/// A failure of the file system: what was tried with which file, and why it did not work.
///
/// - Parameter code: `errno`, read at once after the call that failed.
func fileFailure(_ message: String, _ code: Int32, recovery: JobFailure.Recovery = .restart) -> JobFailure {
    let isFull = [ENOSPC, EDQUOT, EMFILE, ENFILE].contains(code)
    return JobFailure(domain: isFull ? .resource : .external, recovery: recovery, message: message, cause: systemText(code))
}

/// Calls `body` again as long as a signal interrupts it; -1 and `errno` for any other error.
func retrying<Value: SignedInteger>(_ body: () -> Value) -> Value {
    while true {
        let result = body()
        if result == -1, errno == EINTR { continue }
        return result
    }
}

/// The start of a line, for messages.
func firstBytes(_ line: UnsafeRawBufferPointer, max bytesMax: Int = 64) -> String {
    let head = line.prefix(bytesMax)
    let text =
        head.allSatisfy { (0x20..<0x7F).contains($0) || $0 == 0x09 }
        ? "\"" + String(decoding: head, as: UTF8.self) + "\""
        : head.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    return line.count > bytesMax ? "\(text)… (\(line.count) bytes)" : text
}
