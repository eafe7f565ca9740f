package import WeirBase

/// Reading parts of a file, for checkpoints that refer to pieces of earlier ones.
extension CheckpointStorage {
    /// Checks that a file begins as the one that was acknowledged.
    ///
    /// - Throws: `JobFailure` (external) with the path.
    package func checkHeader(of file: StoredState) throws(JobFailure) {
        let header = try read(file, offset: 0, bytes: CheckpointFile.headerBytes)
        guard header == CheckpointFile.header(.taskState, payloadBytes: file.bytes, payloadCRC: file.crc) else {
            throw unusable(file, "damaged, or another file than the one that was acknowledged: its header is not that of \(file.bytes) bytes")
        }
    }

    /// Reads bytes of the payload. The caller checks them.
    ///
    /// - Throws: `JobFailure` (external) with the path: missing, truncated, an error of the device.
    package func readPiece(of file: StoredState, offset: Int, bytes: Int) throws(JobFailure) -> [UInt8] {
        try read(file, offset: CheckpointFile.headerBytes + offset, bytes: bytes)
    }

    private func read(_ file: StoredState, offset: Int, bytes: Int) throws(JobFailure) -> [UInt8] {
        let found: [UInt8]
        do throws(FileFailure) {
            found = try retry.run { () throws(FileFailure) in try files.read(path(of: file), offset: offset, count: bytes) }
        } catch {
            guard error.isMissing else {
                throw JobFailure(
                    domain: .external, recovery: .restart, message: "cannot read the checkpoint file \(path(of: file))", cause: error.reason)
            }
            throw unusable(file, "missing")
        }
        guard found.count == bytes else { throw unusable(file, "truncated: \(found.count) of \(bytes) bytes at \(offset)") }
        return found
    }

    private func path(of file: StoredState) -> String { file.path.hasPrefix("/") ? file.path : jobDirectory + "/" + file.path }

    private func unusable(_ file: StoredState, _ problem: String) -> JobFailure {
        JobFailure(domain: .external, recovery: .fail, message: "the checkpoint file \(path(of: file)) cannot be used", cause: problem)
    }
}
