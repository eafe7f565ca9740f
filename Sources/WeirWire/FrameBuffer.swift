/// Bytes that came and were not taken yet: a contiguous queue that is filled at its end and read at its start.
///
/// Owned by one thread at a time. It grows to the largest frame under way plus one read, and goes back to its base capacity when
/// it runs empty after a large one.
package struct FrameBuffer: ~Copyable, @unchecked Sendable {
    // @unchecked: the memory has one owner, this value, which cannot be copied.
    private var memory: UnsafeMutableRawBufferPointer
    private var head = 0
    private var tail = 0
    /// What it goes back to when it runs empty after it grew.
    package var baseCapacity: Int

    package init(capacity: Int = 16 << 10) {
        baseCapacity = max(64, capacity)
        memory = .allocate(byteCount: baseCapacity, alignment: 16)
    }

    deinit {
        memory.deallocate()
    }

    /// Bytes that can be taken.
    package var count: Int { tail - head }

    package var capacity: Int { memory.count }

    /// Lends the bytes that can be taken.
    package func withReadable<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        body(UnsafeRawBufferPointer(rebasing: memory[head..<tail]))
    }

    /// Lends at least `minimum` bytes of free room to `body`, which returns how many it filled.
    package mutating func fill(minimum: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) {
        makeRoom(minimum)
        let filled = body(UnsafeMutableRawBufferPointer(rebasing: memory[tail...]))
        precondition(filled >= 0 && filled <= memory.count - tail, "filled more than the room that was lent")
        tail += filled
    }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        fill(minimum: bytes.count) { room in
            room.copyMemory(from: bytes)
            return bytes.count
        }
    }

    package mutating func append(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Copies `count` bytes out and drops them; nil, and nothing dropped, when there are fewer.
    package mutating func take(_ count: Int) -> [UInt8]? {
        guard count >= 0, self.count >= count else { return nil }
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { target, initialized in
            UnsafeMutableRawBufferPointer(target).copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[head..<head + count]))
            initialized = count
        }
        skip(count)
        return bytes
    }

    /// Drops bytes at the start.
    ///
    /// - Precondition: There are that many.
    package mutating func skip(_ count: Int) {
        precondition(count >= 0 && count <= self.count, "skipped more than there is")
        head += count
        guard head == tail else { return }
        head = 0
        tail = 0
        if memory.count > max(baseCapacity, 64 << 10) {
            memory.deallocate()
            memory = .allocate(byteCount: baseCapacity, alignment: 16)
        }
    }

    private mutating func makeRoom(_ minimum: Int) {
        guard memory.count - tail < minimum else { return }
        if head > 0 {
            memory.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[head..<tail]))
            tail -= head
            head = 0
        }
        guard memory.count - tail < minimum else { return }
        let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: max(tail + minimum, memory.count * 2), alignment: 16)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<tail]))
        memory.deallocate()
        memory = larger
    }
}
