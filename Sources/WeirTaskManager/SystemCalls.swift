internal import CWeirSystem
@preconcurrency internal import Glibc

/// The system's words for an errno, by default the current one.
func errnoText(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }

/// The variables that this process was started with. Without Foundation, which would cost a process that does little megabytes.
func processEnvironment() -> [String: String] {
    var result: [String: String] = [:]
    var entry = environ
    while let pointer = entry.pointee {
        let text = String(cString: pointer)
        if let equals = text.firstIndex(of: "=") { result[String(text[..<equals])] = String(text[text.index(after: equals)...]) }
        entry += 1
    }
    return result
}

/// Lends a NULL-terminated array of C strings. Strings end at their first NUL byte, as they do for every process.
func withCStrings<R>(_ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> R) -> R {
    var pointers: [UnsafeMutablePointer<CChar>?] = strings.map { strdup($0) }
    defer { for pointer in pointers { free(pointer) } }
    pointers.append(nil)
    return pointers.withUnsafeBufferPointer { buffer in
        guard let base = buffer.baseAddress else { preconditionFailure("an array with one element has an address") }
        return body(base)
    }
}

private final class ThreadBody: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
        self.name = name
        self.run = run
    }
}

/// Starts a detached thread for work that blocks in the kernel.
///
/// - Parameter name: The kernel keeps 15 bytes.
/// - Returns: False when the process has no threads left; then nothing runs.
func startThread(name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    // These threads do little; the default of 8 MiB counts against limits of address space.
    pthread_attr_setstacksize(&attributes, 256 << 10)
    var thread = pthread_t()
    let box = Unmanaged.passRetained(ThreadBody(name: name, run: body))
    let code = pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument else { return nil }
            let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
            weir_set_thread_name(body.name)
            body.run()
            return nil
        }, box.toOpaque())
    guard code == 0 else {
        box.release()
        return false
    }
    return true
}

/// Creates a directory and those above it.
///
/// - Returns: nil, or why it could not.
func makeDirectories(_ path: String) -> String? {
    var partial = path.hasPrefix("/") ? "/" : ""
    for component in path.split(separator: "/") {
        partial += component
        if mkdir(partial, 0o755) != 0, errno != EEXIST { return "cannot create the directory \(partial): \(errnoText())" }
        partial += "/"
    }
    return nil
}
