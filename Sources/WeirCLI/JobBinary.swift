internal import Glibc
internal import WeirBase
internal import WeirStorage

/// The job's program as a person names it on the command line.
package enum JobBinary {
    /// Checks that it is there, that this user may run it, and that this kind of machine can.
    package static func check(path: String) throws(CommandFailure) {
        let hint = "build the job with `swift build -c release` and give the path of its program, e.g. .build/release/MyJob"
        var status = stat()
        guard stat(path, &status) == 0 else { throw CommandFailure("cannot run \(path): \(errnoText())", hint: hint) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw CommandFailure("\(path) is not a file", hint: hint) }
        do {
            try ExecutableFile.check(path)
        } catch {
            throw CommandFailure(error.message + (error.cause.map { ": " + $0 } ?? ""), hint: error.domain == .configuration ? hint : "")
        }
        guard access(path, X_OK) == 0 else { throw CommandFailure("\(path) is not executable", hint: "chmod +x \(path)") }
    }
}
