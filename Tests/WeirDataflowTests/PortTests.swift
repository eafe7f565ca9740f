import Testing
import WeirBase
import WeirGraph

@testable import WeirDataflow

@Suite struct PartitioningTests {
    private func ends(_ count: Int, capacity: Int = 4_096) -> ([LocalChannel], OutputPort) {
        let channels = (0..<count).map { _ in LocalChannel(capacity: capacity) }
        return (channels, OutputPort(channels: channels))
    }

    private func drain(_ channel: LocalChannel) -> [Seen] {
        var seen: [Seen] = []
        while let element = channel.pop() { seen.append(Seen(element)) }
        return seen
    }

    @Test func hashSendsEveryRowToTheOwnerOfItsKeyGroup() throws {
        for targets in [2, 3, 7, 128] {
            let (channels, port) = ends(targets)
            let collector = HashCollector<Int64>(port, maxParallelism: 128, operations: RowOperations(Int64.self), hasher: hashRows)
            var random = SplitMix64(seed: 1)
            let rows = (0..<20_000).map { _ in Int64.random(in: 0..<5_000, using: &random) }
            var next = 0
            while next < rows.count {
                let count = min(rows.count - next, Int.random(in: 1...3_000, using: &random))
                try collector.emit(Batch(rows: Array(rows[next..<next + count])))
                next += count
            }
            try collector.flush()
            for target in 0..<targets {
                let expected = rows.filter {
                    let group = KeyGroups.keyGroup(hash: KeyHash.hash(UInt64(bitPattern: $0)), maxParallelism: 128)
                    return KeyGroups.subtask(keyGroup: group, parallelism: targets, maxParallelism: 128) == target
                }
                var received: [Int64] = []
                while let element = channels[target].pop() {
                    guard case .batch(let batch) = element else { continue }
                    #expect(batch.hasKeyHashes && batch.count <= 1_024)
                    for row in 0..<batch.count {
                        #expect(batch.keyHashes[row] == KeyHash.hash(UInt64(bitPattern: batch.int64Rows[row])))
                        #expect(batch.timestamps[row] == batch.int64Rows[row])
                        if row > 2 { break }
                    }
                    received += batch.int64Rows
                }
                #expect(received == expected)
            }
        }
    }

    @Test func hashToOneSubtaskPassesTheBatchItself() throws {
        let (channels, port) = ends(1)
        let collector = HashCollector<Int64>(port, maxParallelism: 128, operations: RowOperations(Int64.self), hasher: hashRows)
        let batch = Batch<Int64>(rows: [1, 2])
        try collector.emit(batch)
        guard case .batch(let received) = channels[0].pop() else {
            Issue.record("no batch")
            return
        }
        #expect(received === batch && received.hasKeyHashes)
    }

    @Test func rowsThatWereNotFlushedAreFreed() throws {
        final class Item: Sendable {
            let alive: Counter
            init(_ alive: Counter) {
                self.alive = alive
                alive.add(1)
            }
            deinit { alive.add(-1) }
        }
        let alive = Counter()
        do {
            let (channels, port) = ends(2)
            let collector = HashCollector<Item>(port, maxParallelism: 2, operations: RowOperations(local: Item.self)) { batch in
                for row in 0..<batch.count { batch.keyHashes[row] = UInt64(row) << 62 }
            }
            let batch = Batch<Item>(capacity: 10)
            for _ in 0..<10 { batch.append(Item(alive), timestamp: 0) }
            try collector.emit(batch)
            #expect(alive.value == 10)
            #expect(channels[0].pop() == nil)
        }
        #expect(alive.value == 0)
    }

    @Test func rebalanceGoesRoundByBatch() throws {
        let (channels, port) = ends(3)
        let collector = RebalanceCollector<Int64>(port, first: 4)
        for row in 0..<6 { try collector.emit(Batch(rows: [Int64(row)])) }
        #expect(channels.map(drain) == [[.rows([2]), .rows([5])], [.rows([0]), .rows([3])], [.rows([1]), .rows([4])]])
    }

    @Test func broadcastGivesEveryoneTheirOwnCopy() throws {
        let (channels, port) = ends(3)
        try BroadcastCollector<Int64>(port).emit(Batch(rows: [1, 2]))
        var batches: [AnyBatch] = []
        for channel in channels { if case .batch(let batch) = channel.pop() { batches.append(batch) } }
        #expect(batches.map(\.int64Rows) == [[1, 2], [1, 2], [1, 2]])
        #expect(Set(batches.map(ObjectIdentifier.init)).count == 3)
    }

    @Test func emptyBatchesGoNowhere() throws {
        let (channels, port) = ends(1)
        try SingleTargetCollector<Int64>(port).emit(Batch(capacity: 1))
        #expect(drain(channels[0]) == [])
        #expect(!port.isBlocked)
    }

    @Test func fanOutCopiesToAllButTheLast() throws {
        let (left, leftPort) = ends(1)
        let (right, rightPort) = ends(1)
        let collector = FanOutCollector<Int64>([SingleTargetCollector(leftPort), SingleTargetCollector(rightPort)])
        let batch = Batch<Int64>(rows: [4])
        try collector.emit(batch)
        guard case .batch(let first) = left[0].pop(), case .batch(let last) = right[0].pop() else {
            Issue.record("no batch")
            return
        }
        #expect(last === batch && first !== batch && first.int64Rows == [4])
    }
}

@Suite struct BackPressureTests {
    @Test func whatDoesNotFitWaitsInOrder() throws {
        let channel = LocalChannel(capacity: 2)
        let port = OutputPort(channels: [channel])
        for row in 0..<5 { try port.send(Batch(rows: [Int64(row)]), to: 0) }
        try port.broadcast(.watermark(9))
        #expect(port.isBlocked)
        var seen: [Seen] = []
        while let element = channel.pop() {
            seen.append(Seen(element))
            _ = try port.drain()
        }
        #expect(seen == (0..<5).map { .rows([$0]) } + [.watermark(9)])
        #expect(!port.isBlocked)
    }

    @Test func aFullChannelDoesNotHoldUpTheOthers() throws {
        let full = LocalChannel(capacity: 1)
        let free = LocalChannel(capacity: 8)
        let port = OutputPort(channels: [full, free])
        for row in 0..<3 {
            try port.send(Batch(rows: [Int64(row)]), to: 0)
            try port.send(Batch(rows: [Int64(row)]), to: 1)
        }
        #expect((0..<3).compactMap { _ in free.pop() }.count == 3)
        #expect(port.isBlocked)
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func nothingIsLostOrReordered(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let count = Int.random(in: 1...4, using: &random)
        let isRemote = Bool.random(using: &random)
        let codec = BatchCodec(Int64.self)
        var outputs: [any OutputChannel] = []
        var inputs: [any InputChannel] = []
        for _ in 0..<count {
            if isRemote {
                let pipe = BytePipe(room: Int.random(in: 1...3, using: &random))
                outputs.append(RemoteOutputChannel(output: pipe, codec: codec))
                inputs.append(RemoteInputChannel(input: pipe, codec: codec))
            } else {
                let channel = LocalChannel(capacity: Int.random(in: 1...3, using: &random))
                outputs.append(channel)
                inputs.append(channel)
            }
        }
        let port = OutputPort(channels: outputs)
        var sent: [[Int64]] = Array(repeating: [], count: count)
        var received = sent
        var next: Int64 = 0
        func receive(_ channel: Int) throws {
            guard let element = try inputs[channel].pop() else { return }
            switch element {
            case .batch(let batch): received[channel] += batch.int64Rows
            case .watermark(let time): received[channel].append(-time)
            default: break
            }
        }
        for _ in 0..<300 {
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1:
                let channel = Int.random(in: 0..<count, using: &random)
                let rows = (0..<(Int.random(in: 0..<30, using: &random) == 0 ? 5_000 : Int64.random(in: 1...20, using: &random))).map { next + $0 }
                next += Int64(rows.count)
                sent[channel] += rows
                try port.send(Batch(rows: rows), to: channel)
            case 2:
                next += 1
                for channel in 0..<count { sent[channel].append(-next) }
                try port.broadcast(.watermark(next))
            case 3: _ = try port.drain()
            default: try receive(Int.random(in: 0..<count, using: &random))
            }
        }
        for _ in 0..<10_000 {
            let progress = try port.drain()
            for channel in 0..<count { try receive(channel) }
            if !progress, !port.isBlocked, received == sent { break }
        }
        #expect(received == sent)
        #expect(!port.isBlocked)
    }
}
