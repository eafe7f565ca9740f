import Synchronization
import Testing
import WeirBase

@testable import WeirDataflow

/// A gate whose channels a test fills, and what it had in flight at its checkpoints.
private struct Fed {
    var gate: InputGate
    let channels: [LocalChannel]

    init(_ count: Int, after timeout: Duration = .zero, mode: BarrierAlignment? = nil, hasCodec: Bool = true) {
        let channels = (0..<count).map { _ in LocalChannel(capacity: 64) }
        self.channels = channels
        gate = InputGate(
            channels.enumerated().map { index, channel in
                let origin = ChannelOrigin(
                    sender: OperatorID(uid: "s"), input: 0, from: index, fromParallelism: count, to: 0, toParallelism: 1,
                    codec: BatchCodec(Int64.self))
                return (channel: channel, input: 0, origin: hasCodec ? origin : nil)
            }, mode: mode ?? .unaligned(after: timeout))
    }

    func push(_ channel: Int, _ elements: StreamElement...) { for element in elements { #expect(channels[channel].tryPush(element)) } }

    /// Pushes a barrier and announces it.
    func pass(_ channel: Int, _ checkpoint: UInt64, flags: Barrier.Flags = []) {
        let barrier = Barrier(checkpoint: checkpoint, timestamp: 0, flags: flags)
        push(channel, .barrier(barrier))
        channels[channel].announce(barrier)
    }

    /// Looks out, then takes the next event: its name, and the state of an overtaking barrier.
    mutating func next(wallTime: Int64 = 0) throws -> (event: String, inFlight: DeferredState?) {
        _ = try gate.lookOut(wallTime: wallTime)
        switch try gate.next() {
        case .batch(let batch, _): return ("rows \(batch.int64Rows)", nil)
        case .watermark(let time): return ("watermark \(time)", nil)
        case .status(let idle): return ("idle \(idle)", nil)
        case .barrier(let barrier): return ("barrier \(barrier.checkpoint)", nil)
        case .overtakingBarrier(let barrier, let state): return ("overtaking \(barrier.checkpoint)", state)
        case .alignmentCanceled(let checkpoint): return ("canceled \(checkpoint)", nil)
        case .endOfData: return ("end", nil)
        case nil: return ("nothing", nil)
        }
    }

    mutating func events(wallTime: Int64 = 0) throws -> [String] {
        var events: [String] = []
        while true {
            let (event, _) = try next(wallTime: wallTime)
            if event == "nothing" { return events }
            events.append(event)
        }
    }
}

extension LocalChannel {
    fileprivate var isEmpty: Bool { pop() == nil }
}

/// Rows and watermarks in flight by channel; nil while they are not all known.
private func inFlight(_ state: DeferredState?) throws -> [Int: [String]]? {
    let box = Box()
    state?.whenDone { box.outcome.withLock { [outcome = $0] in $0 = outcome } }
    guard let entries = try box.outcome.withLock({ try $0?.get() }) else { return nil }
    var result: [Int: [String]] = [:]
    for entry in entries {
        let channel = try ChannelState(decoding: entry)
        result[channel.from] = try channel.frames.map { frame in
            switch try ElementFrame.decode(frame, codec: BatchCodec(Int64.self)) {
            case .batch(let batch): "rows \(batch.int64Rows)"
            case .watermark(let time): "watermark \(time)"
            default: "other"
            }
        }
    }
    return result
}

private final class Box: Sendable {
    let outcome = Mutex<DeferredState.Outcome?>(nil)
}

private func rows(_ rows: Int64...) -> StreamElement { .batch(Batch(rows: rows)) }

@Suite struct OvertakingGateTests {
    @Test func theBarrierOvertakesWhatIsQueuedWhichIsStillDelivered() throws {
        var fed = Fed(1)
        fed.push(0, rows(1), .watermark(5), rows(2))
        fed.pass(0, 1)
        let (event, state) = try fed.next()
        #expect(event == "overtaking 1")
        #expect(try inFlight(state) == [0: ["rows [1]", "watermark 5", "rows [2]"]])
        fed.push(0, rows(3))
        #expect(try fed.events() == ["rows [1]", "watermark 5", "rows [2]", "rows [3]"])
    }

    @Test func aChannelWithoutBarrierIsWrittenDownAsItIsTakenInItsTurn() throws {
        var fed = Fed(2)
        fed.push(1, rows(10))
        fed.pass(0, 1)
        let (event, state) = try fed.next()
        #expect(event == "overtaking 1")
        #expect(try inFlight(state) == nil)
        fed.push(1, rows(11))
        _ = try fed.events()
        #expect(try inFlight(state) == nil)
        fed.pass(1, 1)
        fed.push(1, rows(12))
        #expect(try fed.events() == ["rows [12]"])
        #expect(try inFlight(state)?[0] == nil)
        #expect(try inFlight(state)?[1]?.last == "rows [11]")
    }

    @Test func onlyChannelsThatAnnouncedAreEmptiedAheadOfTheirTurn() throws {
        var fed = Fed(2)
        for row in 0..<10 as Range<Int64> {
            fed.push(0, rows(row))
            fed.push(1, rows(100 + row))
        }
        fed.pass(0, 1)
        #expect(try fed.next().event == "overtaking 1")
        #expect(fed.channels[0].isEmpty)
        #expect(!fed.channels[1].isEmpty)
    }

    @Test func whatTheSenderCouldNotSendYetIsTakenOnceThereIsRoom() throws {
        var fed = Fed(1)
        for row in 0..<64 as Range<Int64> { fed.push(0, rows(row)) }
        #expect(!fed.channels[0].tryPush(rows(64)))
        fed.channels[0].announce(barrier(1))
        let (_, state) = try fed.next()
        #expect(try inFlight(state) == nil)
        fed.push(0, rows(64), .barrier(barrier(1)))
        _ = try fed.gate.lookOut(wallTime: 0)
        #expect(try inFlight(state)?[0]?.count == 65)
        #expect(try fed.events().count == 65)
    }

    @Test func rowsTakenAheadForOneCheckpointBelongToTheNextAsLongAsTheyWait() throws {
        var fed = Fed(1)
        fed.push(0, rows(1), rows(2))
        fed.pass(0, 1)
        #expect(try fed.next().event == "overtaking 1")
        #expect(try fed.next().event == "rows [1]")
        fed.push(0, rows(3))
        fed.pass(0, 2)
        let (event, state) = try fed.next()
        #expect(event == "overtaking 2")
        #expect(try inFlight(state) == [0: ["rows [2]", "rows [3]"]])
    }

    @Test func beforeTheTimeoutBarriersAlign() throws {
        var fed = Fed(2, after: .milliseconds(100))
        fed.push(0, rows(1), .barrier(barrier(1)), rows(2))
        fed.push(1, rows(10))
        #expect(try Set(fed.events(wallTime: 99)) == ["rows [1]", "rows [10]"])
        #expect(fed.gate.overtakingBegins == 100)
        fed.push(1, rows(11))
        let (event, state) = try fed.next(wallTime: 100)
        #expect(event == "overtaking 1")
        fed.push(1, .barrier(barrier(1)))
        #expect(try Set(fed.events(wallTime: 100)) == ["rows [2]", "rows [11]"])
        #expect(try inFlight(state) == [1: ["rows [11]"]])
    }

    @Test func aSavepointNeverOvertakes() throws {
        var fed = Fed(2)
        fed.push(0, .barrier(Barrier(checkpoint: 1, timestamp: 0, flags: .savepoint)), rows(1))
        #expect(try fed.events(wallTime: .max) == [])
        fed.push(1, .barrier(Barrier(checkpoint: 1, timestamp: 0, flags: .savepoint)))
        #expect(try fed.events() == ["barrier 1", "rows [1]"])
    }

    @Test func channelsWithoutCodingAlign() throws {
        var fed = Fed(2, hasCodec: false)
        fed.push(1, rows(10))
        fed.pass(0, 1)
        #expect(try fed.events() == ["rows [10]"])
        fed.pass(1, 1)
        #expect(try fed.events() == ["barrier 1"])
    }

    @Test func anAbortedCheckpointIsWrittenDownNoMore() throws {
        var fed = Fed(2)
        fed.push(1, rows(10))
        fed.pass(0, 1)
        let (_, state) = try fed.next()
        fed.gate.abort(CheckpointID(1))
        #expect(throws: JobFailure.self) { try inFlight(state) }
        fed.pass(1, 1)
        #expect(try fed.events() == ["rows [10]"])
        fed.gate.abort(CheckpointID(2))
        fed.push(0, rows(3))
        fed.pass(0, 2)
        #expect(try fed.events() == ["rows [3]"])
    }

    @Test func aNewerCheckpointTakesThePlaceOfOneThatIsNotComplete() throws {
        var fed = Fed(2)
        fed.pass(0, 1)
        let (_, first) = try fed.next()
        fed.push(1, rows(10))
        fed.pass(1, 2)
        let (event, second) = try fed.next()
        #expect(event == "overtaking 2")
        #expect(throws: JobFailure.self) { try inFlight(first) }
        fed.pass(0, 2)
        #expect(try fed.events() == ["rows [10]"])
        #expect(try inFlight(second) == [1: ["rows [10]"]])
    }

    @Test func aChannelThatEndsHasNothingMoreInFlight() throws {
        var fed = Fed(2)
        fed.push(1, rows(10), .watermark(.max), .endOfData)
        fed.pass(0, 1)
        let (_, state) = try fed.next()
        #expect(try fed.events().first == "rows [10]")
        #expect(try inFlight(state)?[1]?.first == "rows [10]")
    }

    @Test func restoredRowsComeBeforeNewOnesOfAnyChannel() throws {
        var fed = Fed(2)
        fed.push(0, rows(20))
        fed.gate.restore(rows(1), to: 1)
        fed.gate.restore(rows(2), to: 1)
        #expect(try fed.next().event == "rows [1]")
        fed.pass(0, 5)
        let (event, state) = try fed.next()
        #expect(event == "overtaking 5")
        fed.pass(1, 5)
        #expect(try fed.events() == ["rows [2]", "rows [20]"])
        #expect(try inFlight(state) == [0: ["rows [20]"], 1: ["rows [2]"]])
    }

    @Test func atLeastOnceHoldsNothingBack() throws {
        var fed = Fed(2, mode: .atLeastOnce)
        fed.push(0, .barrier(barrier(1)), rows(1))
        fed.push(1, rows(10))
        #expect(try Set(fed.events()) == ["rows [1]", "rows [10]"])
        fed.push(1, .barrier(barrier(1)))
        #expect(try fed.events() == ["barrier 1"])
    }

    @Test func damagedChannelStateIsRefused() throws {
        let origin = ChannelOrigin(
            sender: OperatorID(uid: "s"), input: 1, from: 2, fromParallelism: 3, to: 4, toParallelism: 5, codec: BatchCodec(Int64.self))
        let state = ChannelState(origin, frames: [[1, 2, 3], []])
        let bytes = state.encoded()
        #expect(try ChannelState(decoding: bytes) == state)
        for count in bytes.indices { #expect(throws: DecodingFailure.self) { try ChannelState(decoding: Array(bytes[..<count])) } }
        #expect(throws: DecodingFailure.self) { try ChannelState(decoding: [2] + bytes.dropFirst()) }
        #expect(throws: DecodingFailure.self) { try ChannelState(decoding: bytes + [0]) }
    }
}
