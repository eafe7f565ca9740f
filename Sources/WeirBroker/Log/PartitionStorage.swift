internal import WeirBase

/// Where a partition's segments and the small files about them are.
///
/// On disk a partition is a directory (proto-docs/broker-log.md): `<base offset>.log`, `<base offset>.index` of closed segments,
/// `<offset>.producers` with what was known of producers at an offset, and `log-start` once records were deleted by request. Names hold
/// offsets in 20 digits.
enum PartitionStorage {
    case memory(name: String, MemoryBudget)
    case directory(path: String, OpenFiles)

    /// What messages call it.
    var name: String {
        switch self {
        case .memory(let name, _): name
        case .directory(let path, _): path
        }
    }

    enum SideFile {
        case index(Int64)
        case producers(Int64)
        case logStart

        var name: String {
            switch self {
            case .index(let offset): fileName(offset, ".index")
            case .producers(let offset): fileName(offset, ".producers")
            case .logStart: "log-start"
            }
        }
    }

    /// The base offsets of the segments, ascending; files that a crash left half made are removed.
    func segments() throws(LogFailure) -> [Int64] {
        guard case .directory(let path, let files) = self else { return [] }
        var offsets: [Int64] = []
        for name in try OpenFiles.list(path) {
            if name.hasSuffix(".tmp") { try files.remove(LogFile(path: path + "/" + name)) }
            if let offset = offset(name, ".log") { offsets.append(offset) }
        }
        return offsets
    }

    /// - Parameter creating: Makes the file exist now, not at the first append.
    func open(_ baseOffset: Int64, creating: Bool) throws(LogFailure) -> any SegmentBytes {
        switch self {
        case .memory(let name, let budget): MemoryBytes(name: name + "/" + fileName(baseOffset, ".log"), budget: budget)
        case .directory(let path, let files): try FileBytes(path: path + "/" + fileName(baseOffset, ".log"), files: files, creating: creating)
        }
    }

    /// In memory nothing outlives the process, so nothing is kept.
    func write(_ file: SideFile, _ bytes: @autoclosure () -> [UInt8]) throws(LogFailure) {
        guard case .directory(let path, let files) = self else { return }
        try files.makeDirectory(path)
        try files.writeAtomically(path + "/" + file.name, bytes())
    }

    func read(_ file: SideFile) throws(LogFailure) -> [UInt8]? {
        guard case .directory(let path, let files) = self else { return nil }
        return try files.readWhole(path + "/" + file.name)
    }

    func remove(_ file: SideFile) throws(LogFailure) {
        guard case .directory(let path, let files) = self else { return }
        try files.remove(LogFile(path: path + "/" + file.name))
    }

    /// Removes the small files that belong to no segment and no end of the log: a crash or an earlier end left them.
    func removeSideFiles(except offsets: Set<Int64>) throws(LogFailure) {
        guard case .directory(let path, let files) = self else { return }
        for name in try OpenFiles.list(path) {
            guard let offset = offset(name, ".index") ?? offset(name, ".producers"), !offsets.contains(offset) else { continue }
            try files.remove(LogFile(path: path + "/" + name))
        }
    }

    /// Flushes what was written to the disk, where the broker promises it.
    func sync() throws(LogFailure) {
        guard case .directory(_, let files) = self else { return }
        try files.sync()
    }

    func removeAll() throws(LogFailure) {
        guard case .directory(let path, let files) = self else { return }
        try files.removeDirectory(path)
    }

    private func offset(_ name: String, _ suffix: String) -> Int64? {
        guard name.hasSuffix(suffix), name.utf8.count == 20 + suffix.utf8.count else { return nil }
        return Int64(name.prefix(20))
    }
}

private func fileName(_ offset: Int64, _ suffix: String) -> String {
    let digits = String(offset)
    return String(repeating: "0", count: 20 - digits.utf8.count) + digits + suffix
}
