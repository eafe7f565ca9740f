import Glibc
import WeirBase

/// Whole lines of one file, as they lie there. Owned by the reader's thread or by the source, never by both.
@usableFromInline
final class LineBlock {
    @usableFromInline private(set) var base: UnsafeMutableRawPointer
    private(set) var capacity: Int
    /// Bytes of lines from ``base`` on; each line ends with a newline, but for the last of a file perhaps.
    @usableFromInline var count = 0
    /// Where in the file ``base`` stands.
    @usableFromInline var offset: Int64 = 0
    /// Which of the reader's ranges the lines belong to.
    @usableFromInline var range = 0
    /// Whether the range has no lines behind these.
    @usableFromInline var isLast = false

    init(capacity: Int) {
        self.capacity = capacity
        base = .allocate(byteCount: capacity, alignment: 64)
    }

    deinit { base.deallocate() }

    func grow(to bytes: Int, keeping used: Int) {
        let larger = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        larger.copyMemory(from: base, byteCount: used)
        base.deallocate()
        base = larger
        capacity = bytes
    }
}

/// Reads the ranges of one subtask, one behind the other, on a thread of its own, some blocks ahead.
///
/// Lines are kept together here, so that the source can hand each out where it lies.
final class BlockReader: @unchecked Sendable {  // `lock` guards all that is marked so; the rest is the thread's, or constant.
    enum Next {
        case block(LineBlock)
        /// The waker is called when that changes.
        case nothing
        case finished
        case failed(JobFailure)
    }

    static let blocksAhead = 4

    private let ranges: [FileRange]
    private let blockBytes: Int
    private let lineBytesMax: Int
    private let wake: @Sendable () -> Void

    private let lock = ConditionLock()
    // Guarded by `lock`.
    private var ready: [LineBlock] = []
    private var free: [LineBlock] = []
    private var failure: JobFailure?
    private var isAtEnd = false
    private var isStopped = false

    private var thread: pthread_t?
    /// The thread's: what it read of the next line already.
    private var carried: [UInt8] = []

    /// - Parameters:
    ///   - ranges: In the order in which they are read. Finished ones are left out.
    ///   - blockBytes: How much is read at a time; a block grows for a line that is longer.
    init(ranges: [FileRange], blockBytes: Int, lineBytesMax: Int, wake: @escaping @Sendable () -> Void) {
        self.ranges = ranges
        self.blockBytes = blockBytes
        self.lineBytesMax = lineBytesMax
        self.wake = wake
    }

    /// Begins to read. Call ``stop()`` before letting it go.
    func start() throws(JobFailure) {
        for _ in 0..<Self.blocksAhead { free.append(LineBlock(capacity: blockBytes)) }
        var handle = pthread_t()
        let reader = Unmanaged.passRetained(self)
        let code = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<BlockReader>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, reader.toOpaque())
        guard code == 0 else {
            reader.release()
            throw fileFailure("cannot start a thread that reads files", code)
        }
        thread = handle
    }

    /// Ends the thread and waits for it.
    func stop() {
        lock.withLock { isStopped = true }
        lock.signal()
        if let thread { pthread_join(thread, nil) }
        thread = nil
    }

    func next() -> Next {
        lock.withLock {
            if !ready.isEmpty { return .block(ready.removeFirst()) }
            if let failure { return .failed(failure) }
            return isAtEnd ? .finished : .nothing
        }
    }

    /// Gives a block back once its lines were handled.
    func recycle(_ block: LineBlock) {
        lock.withLock { free.append(block) }
        lock.signal()
    }

    // MARK: The thread

    private struct Stopped: Error {}

    private func run() {
        do {
            for (index, range) in ranges.enumerated() where !range.isFinished { try read(range, index) }
            lock.withLock { isAtEnd = true }
        } catch let failed as JobFailure {
            lock.withLock { failure = failed }
        } catch {}  // Stopped.
        wake()
    }

    private func takeFree() throws -> LineBlock {
        let block = lock.withLock { () -> LineBlock? in
            while free.isEmpty, !isStopped { lock.wait() }
            return isStopped ? nil : free.removeLast()
        }
        guard let block else { throw Stopped() }
        return block
    }

    private func publish(_ block: LineBlock) {
        lock.withLock { ready.append(block) }
        wake()
    }

    private func read(_ range: FileRange, _ index: Int) throws {
        let file = retrying { open(range.path, O_RDONLY | O_CLOEXEC) }
        guard file >= 0 else { throw fileFailure("cannot open \"\(range.path)\"", errno, recovery: errno == EACCES ? .fail : .restart) }
        defer { close(file) }
        var status = stat()
        guard fstat(file, &status) == 0 else { throw fileFailure("cannot read \"\(range.path)\"", errno) }
        guard Int64(status.st_size) >= range.next else {
            throw JobFailure(
                domain: .external, recovery: .fail,
                message: "\"\(range.path)\" has \(status.st_size) bytes, but it was read up to byte \(range.next) before:"
                    + " it was cut or replaced while the job needed it")
        }
        posix_fadvise(file, 0, 0, POSIX_FADV_SEQUENTIAL)
        carried.removeAll(keepingCapacity: true)
        var position = range.isAligned ? range.next : try firstLine(in: range, file)
        while position < range.end {
            let block = try takeFree()
            block.range = index
            block.offset = position
            try fill(block, range, file)
            position += Int64(block.count)
            let isLast = block.isLast
            publish(block)
            if isLast { return }
        }
        // No line begins here: an empty block says that the range is done.
        let block = try takeFree()
        (block.range, block.offset, block.count, block.isLast) = (index, position, 0, true)
        publish(block)
    }

    /// Where the first line begins that begins in the range; its end or more if none does.
    private func firstLine(in range: FileRange, _ file: Int32) throws -> Int64 {
        let chunkBytes = 64 * 1_024
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: chunkBytes, alignment: 16)
        defer { buffer.deallocate() }
        // A line begins at the start itself if a newline stands right before it.
        var offset = range.start - 1
        while offset < range.end {
            let count = try read(file, buffer, chunkBytes, offset, range.path)
            if count == 0 { return range.end }
            if let newline = memchr(buffer, 0x0A, count) { return offset + Int64(UnsafeRawPointer(newline) - UnsafeRawPointer(buffer)) + 1 }
            offset += Int64(count)
        }
        return range.end
    }

    private func read(_ file: Int32, _ buffer: UnsafeMutableRawPointer, _ bytes: Int, _ offset: Int64, _ path: String) throws -> Int {
        let count = retrying { pread(file, buffer, bytes, off_t(offset)) }
        guard count >= 0 else { throw fileFailure("cannot read \"\(path)\" at byte \(offset)", errno) }
        return count
    }

    /// Fills a block with whole lines, and keeps what it read of the next one.
    private func fill(_ block: LineBlock, _ range: FileRange, _ file: Int32) throws {
        if block.capacity < carried.count { block.grow(to: carried.count + blockBytes, keeping: 0) }
        carried.withUnsafeBytes { if let start = $0.baseAddress { block.base.copyMemory(from: start, byteCount: $0.count) } }
        var filled = carried.count
        carried.removeAll(keepingCapacity: true)
        var searched = 0
        while true {
            if filled < block.capacity {
                let count = try read(file, block.base + filled, block.capacity - filled, block.offset + Int64(filled), range.path)
                if count == 0 {
                    block.count = filled
                    block.isLast = true
                    return
                }
                filled += count
            }
            if let cut = cut(block, filled, range, searched: searched) {
                block.count = cut
                carried.append(contentsOf: UnsafeRawBufferPointer(start: block.base + cut, count: filled - cut))
                return
            }
            searched = filled
            if filled > lineBytesMax { throw lineTooLong(path: range.path, offset: block.offset, bytesMax: lineBytesMax) }
            if filled == block.capacity { block.grow(to: block.capacity * 2, keeping: filled) }
        }
    }

    /// How many of `filled` bytes are whole lines that begin in the range; nil if not one is.
    private func cut(_ block: LineBlock, _ filled: Int, _ range: FileRange, searched: Int) -> Int? {
        if range.end - block.offset <= Int64(filled) {
            // The last line is the one that holds the range's last byte.
            let lastByte = max(searched, Int(range.end - block.offset) - 1)
            if lastByte < filled, let newline = memchr(block.base + lastByte, 0x0A, filled - lastByte) {
                block.isLast = true
                return UnsafeRawPointer(newline) - UnsafeRawPointer(block.base) + 1
            }
        }
        block.isLast = false
        // From behind: the last newline is a line's length away.
        let bytes = UnsafeRawBufferPointer(start: block.base, count: filled)
        return bytes[searched...].lastIndex(of: 0x0A).map { $0 + 1 }
    }
}

/// A line that is longer than lines may be.
func lineTooLong(path: String, offset: Int64, bytesMax: Int) -> JobFailure {
    JobFailure(
        domain: .user, recovery: .fail,
        message: "the line at byte \(offset) of \"\(path)\" is longer than \(bytesMax) bytes: is this a file of lines? Else raise lineBytesMax")
}

/// A mutex with one condition, for a thread that waits.
private final class ConditionLock: @unchecked Sendable {  // The C objects are made for this; their addresses never change.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func withLock<Value>(_ body: () throws -> Value) rethrows -> Value {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body()
    }

    /// Called with the lock held.
    func wait() { pthread_cond_wait(condition, mutex) }
    func signal() { pthread_cond_signal(condition) }
}
