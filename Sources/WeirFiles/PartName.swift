import WeirBase

/// Which file of a sink: all of its bytes were written by one execution attempt of one subtask.
struct PartName: Hashable, Sendable, Comparable {
    let subtask: Int32
    /// The position among the files of the subtask, over all of its attempts.
    let sequence: Int64
    let job: JobID
    let epoch: Epoch

    /// The name that readers see.
    var published: String { "part-\(subtask)-\(sequence)-\(job)-\(epoch)" }
    /// The name until a checkpoint that contains the bytes is complete; hidden from readers.
    var inProgress: String { ".\(published).inprogress" }
    /// The name of a copy of a prefix, while an attempt makes it.
    func copy(by job: JobID, _ epoch: Epoch) -> String { ".\(published).copy-\(job)-\(epoch)" }

    static func < (left: Self, right: Self) -> Bool {
        (left.subtask, left.sequence, left.job, left.epoch) < (right.subtask, right.sequence, right.job, right.epoch)
    }

    /// Reads ``published``; nil for any other name.
    init?(_ text: some StringProtocol) {
        let fields = text.split(separator: "-", omittingEmptySubsequences: false)
        guard fields.count == 5, fields[0] == "part", let subtask = Int32(fields[1]), let sequence = Int64(fields[2]),
            let job = JobID(String(fields[3])), let epoch = UInt32(fields[4]), subtask >= 0, sequence >= 0
        else { return nil }
        self.init(subtask: subtask, sequence: sequence, job: job, epoch: Epoch(epoch))
        // No two spellings of one number.
        guard published == text else { return nil }
    }

    init(subtask: Int32, sequence: Int64, job: JobID, epoch: Epoch) {
        self.subtask = subtask
        self.sequence = sequence
        self.job = job
        self.epoch = epoch
    }
}

/// A file that was found in the directory of a sink.
struct FoundPart: Equatable {
    enum Stage: Equatable {
        case published
        case inProgress
        /// A copy that the attempt did not finish, or is about to.
        case copy(by: JobID, Epoch)
    }

    let name: PartName
    let stage: Stage

    /// - Returns: Nil for a file that is none of a sink's.
    init?(fileName: String) {
        guard fileName.hasPrefix(".") else {
            guard let name = PartName(fileName) else { return nil }
            self.init(name, .published)
            return
        }
        let pieces = fileName.dropFirst().split(separator: ".", omittingEmptySubsequences: false)
        guard pieces.count == 2, let name = PartName(pieces[0]) else { return nil }
        if pieces[1] == "inprogress" {
            self.init(name, .inProgress)
            return
        }
        let fields = pieces[1].split(separator: "-", omittingEmptySubsequences: false)
        guard fields.count == 3, fields[0] == "copy", let job = JobID(String(fields[1])), let epoch = UInt32(fields[2]) else { return nil }
        self.init(name, .copy(by: job, Epoch(epoch)))
    }

    init(_ name: PartName, _ stage: Stage) {
        self.name = name
        self.stage = stage
    }

    var fileName: String {
        switch stage {
        case .published: name.published
        case .inProgress: name.inProgress
        case .copy(let job, let epoch): name.copy(by: job, epoch)
        }
    }

    /// Whether an attempt that has published all that its checkpoint names must remove the file.
    ///
    /// What the attempt itself or a later one of the job has made is never removed: whoever looks may have slept, and have a successor.
    ///
    /// - Parameter known: How many files of the subtask the checkpoint knows.
    func isLeftover(for job: JobID, _ epoch: Epoch, known: Int64) -> Bool {
        let maker: (job: JobID, epoch: Epoch) = if case .copy(let job, let epoch) = stage { (job, epoch) } else { (name.job, name.epoch) }
        if maker.job == job, maker.epoch >= epoch { return false }
        return stage == .published ? name.sequence >= known : true
    }
}
