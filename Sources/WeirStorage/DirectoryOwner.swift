internal import Glibc

/// Who may publish checkpoints in a job's directory: of several JobManagers that take the job for theirs, the last one that came.
///
///     <directory>/owner-<n>
///
/// Whoever comes creates the file with the next number, which the file system grants to one alone, and deletes those below. Each owner
/// confirms before it publishes or deletes anything, by an operation on its own file that the file's server must carry out: a cached listing
/// would not do on NFS. Neither locks nor links are used, nor clocks compared.
package struct DirectoryOwner: Sendable {
    private static let prefix = "owner-"
    /// Others that come at the same time; more is a sign of something else.
    private static let rivalsMax = 100

    package let path: String

    /// Becomes the owner.
    ///
    /// - Parameter directory: Exists.
    package static func take(_ directory: String, files: some StorageFiles) throws(FileFailure) -> DirectoryOwner {
        var tries = 0
        while true {
            let earlier = try files.list(directory).compactMap { number(of: $0) }
            let mine = (earlier.max() ?? 0) + 1
            let path = "\(directory)/\(prefix)\(mine)"
            do throws(FileFailure) { try files.createExclusively(path) } catch {
                tries += 1
                guard error.code == EEXIST, tries < rivalsMax else { throw error }
                continue
            }
            for number in earlier.sorted() { try files.remove("\(directory)/\(prefix)\(number)") }
            try files.syncDirectory(directory)
            return DirectoryOwner(path: path)
        }
    }

    /// Whether nobody else has become the owner.
    ///
    /// - Throws: What says nothing about it: the file system does not answer.
    package func isConfirmed(files: some StorageFiles) throws(FileFailure) -> Bool {
        do throws(FileFailure) {
            try files.touch(path)
            return true
        } catch {
            guard error.isMissing || error.code == ESTALE else { throw error }
            return false
        }
    }

    /// Gives the directory up: the job has ended.
    package func release(files: some StorageFiles) throws(FileFailure) { try files.remove(path) }

    private static func number(of name: String) -> UInt64? {
        guard name.hasPrefix(prefix), let number = UInt64(name.dropFirst(prefix.count)), name == "\(prefix)\(number)" else { return nil }
        return number
    }
}
