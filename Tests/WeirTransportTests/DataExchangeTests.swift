import Synchronization
import Testing
import WeirBase

@testable import WeirTransport

@Suite struct DataExchangeTests {
    @Test func framesArriveWholeAndInOrderWhateverTheirSize() async throws {
        let channel = try OneChannel { $0.bufferBytes = 4_096 }
        var random = SplitMix64(seed: 4)
        let frames = (0..<300).map { index -> [UInt8] in
            let bytes = Int.random(in: 0...(index % 10 == 0 ? 200_000 : 5_000), using: &random)
            return [UInt8](repeating: UInt8(truncatingIfNeeded: index), count: bytes)
        }
        let (output, input) = (channel.output, channel.input)
        let received = Journal<[UInt8]>()
        var next = 0
        let done = await eventually(within: .seconds(30)) {
            while next < frames.count, output.trySend(frames[next]) { next += 1 }
            while let frame = input.receive() { received.append(frame) }
            return received.values.count == frames.count
        }
        #expect(done)
        let isSame = received.values == frames
        #expect(isSame)
        #expect(channel.a.exchange.counters.framesSent == 300)
        #expect(channel.b.exchange.counters.framesReceived == 300)
    }

    @Test func aStalledConsumerBoundsWhatTheSenderMaySend() async throws {
        let channel = try OneChannel { $0.creditsPerChannel = 8 }
        let frame = [UInt8](repeating: 1, count: 32 << 10)
        #expect(await channel.send(frame))
        var sent = 1
        for _ in 0..<200 {
            while channel.output.trySend(frame) { sent += 1 }
            try await Task.sleep(for: .milliseconds(1))
        }
        #expect(sent == 8)
        #expect(await eventually { channel.input.count == 8 })
        #expect(channel.output.trySend(frame) == false)
        // The consumer moves: the producer is woken and may go on, by as much as was taken.
        let wakes = channel.producer.wakes
        for _ in 0..<4 { #expect(channel.input.receive() != nil) }
        #expect(await eventually { channel.producer.wakes > wakes })
        #expect(
            await eventually {
                while channel.output.trySend(frame) { sent += 1 }
                return sent == 12
            })
        #expect(channel.output.trySend(frame) == false)
    }

    @Test func aFrameLargerThanTheWindowGoesAloneOnceAllCreditsAreThere() async throws {
        let channel = try OneChannel {
            $0.creditsPerChannel = 4
            $0.bufferBytes = 1_024
        }
        #expect(await channel.send([1]))
        let large = [UInt8](repeating: 2, count: 100_000)
        #expect(channel.output.trySend(large) == false)
        #expect(await channel.receive() == [1])
        #expect(await channel.send(large))
        #expect(channel.output.trySend([3]) == false)
        let isLarge = await channel.receive() == large
        #expect(isLarge)
        #expect(await channel.send([3]))
        #expect(await channel.receive() == [3])
    }

    @Test func aFrameBeyondTheLimitFailsTheEpoch() async throws {
        let channel = try OneChannel { $0.frameBytesMax = 1_000 }
        #expect(await channel.send([UInt8](repeating: 1, count: 1_000)))
        #expect(channel.output.trySend([UInt8](repeating: 1, count: 1_001)) == false)
        #expect(await eventually { channel.a.failures.values.map(\.message) == ["a frame has 1001 bytes, the limit is 1000"] })
    }

    @Test func arrivalWakesTheConsumerAndOneChannelDoesNotWaitForAnother() async throws {
        let (a, b) = (try TestWorker(0), try TestWorker(1))
        let (from, to) = (a.begin(1, with: [a, b]), b.begin(1, with: [a, b]))
        let wakers = [TestWaker(), TestWaker()]
        let outputs = (0..<2).map { from.openOutput(channel: $0, to: 1, wake: {}) }
        let inputs = (0..<2).map { to.openInput(channel: UInt32($0), from: 0, wake: wakers[$0].wake) }
        from.activate()
        to.activate()
        // Channel 0 is full and nobody takes from it.
        #expect(await eventually { outputs[0].trySend([0]) })
        while outputs[0].trySend([0]) {}
        let before = wakers[1].wakes
        #expect(await eventually { outputs[1].trySend([1]) })
        #expect(await eventually { wakers[1].wakes > before })
        #expect(inputs[1].receive() == [1])
    }

    @Test func bothDirectionsAndAWorkerWithItself() async throws {
        let workers = [try TestWorker(0), try TestWorker(1)]
        let epochs = workers.map { $0.begin(1, with: workers) }
        var outputs: [[RemoteOutput]] = []
        var inputs: [[RemoteInput]] = []
        for from in 0..<2 {
            outputs.append((0..<2).map { epochs[from].openOutput(channel: UInt32(2 * from + $0), to: UInt32($0), wake: {}) })
            inputs.append((0..<2).map { epochs[$0].openInput(channel: UInt32(2 * from + $0), from: UInt32(from), wake: {}) })
        }
        for epoch in epochs { epoch.activate() }
        for from in 0..<2 {
            for to in 0..<2 {
                #expect(await eventually { outputs[from][to].trySend([UInt8(from), UInt8(to)]) })
                var frame: [UInt8]?
                #expect(
                    await eventually {
                        frame = inputs[from][to].receive()
                        return frame != nil
                    })
                #expect(frame == [UInt8(from), UInt8(to)])
            }
        }
    }

    // MARK: Epochs

    @Test func aConnectionOfALaterEpochWaitsUntilThisWorkerIsTold() async throws {
        let (a, b) = (try TestWorker(0), try TestWorker(1))
        let from = a.begin(5, with: [a, b])
        let output = from.openOutput(channel: 1, to: 1, wake: {})
        from.activate()
        try await Task.sleep(for: .milliseconds(50))
        #expect(output.trySend([1]) == false)
        let to = b.begin(5, with: [a, b])
        let input = to.openInput(channel: 1, from: 0, wake: {})
        to.activate()
        #expect(await eventually { output.trySend([1]) })
        #expect(await eventually { input.receive() == [1] })
        #expect(a.failures.values.isEmpty)
    }

    @Test func aConnectionThatWaitsTooLongIsRefused() async throws {
        let (a, b) = (try TestWorker(0), try TestWorker(1) { $0.epochWaitTimeout = .milliseconds(30) })
        let from = a.begin(5, with: [a, b])
        _ = from.openOutput(channel: 1, to: 1, wake: {})
        from.activate()
        #expect(await eventually { a.failures.values.count == 1 })
        #expect(a.failures.values[0].message == "it refused the connection: this worker was not told of epoch 5 in time")
    }

    @Test func aConnectionOfAnEarlierEpochIsRefused() async throws {
        let (a, b) = (try TestWorker(0), try TestWorker(1))
        let to = b.begin(6, with: [a, b])
        to.activate()
        let from = a.begin(5, with: [a, b])
        _ = from.openOutput(channel: 1, to: 1, wake: {})
        from.activate()
        #expect(await eventually { a.failures.values.count == 1 })
        #expect(a.failures.values[0].message == "it refused the connection: epoch 5 is over, this worker is at 6")
        #expect(b.failures.values.isEmpty)
    }

    @Test func aConnectionOfAnotherJobOrWithAnotherTokenIsRefused() async throws {
        let b = try TestWorker(1) { $0.token = "secret" }
        let epoch = b.begin(1, with: [b])
        epoch.activate()
        let strangers = [try TestWorker(0, job: JobID(high: 9, low: 9)) { $0.token = "secret" }, try TestWorker(0)]
        for stranger in strangers {
            let from = stranger.begin(1, with: [stranger, b])
            _ = from.openOutput(channel: 1, to: 1, wake: {})
            from.activate()
            #expect(await eventually { stranger.failures.values.count == 1 })
        }
        #expect(strangers[0].failures.values[0].message.contains("this worker runs job"))
        #expect(strangers[1].failures.values[0].message.contains("the token is wrong"))
    }

    @Test func aWorkerThatIsNotPartOfTheEpochIsRefused() async throws {
        let (a, b) = (try TestWorker(7), try TestWorker(1))
        let to = b.begin(1, with: [b])
        to.activate()
        let from = a.begin(1, with: [a, b])
        _ = from.openOutput(channel: 1, to: 1, wake: {})
        from.activate()
        #expect(await eventually { a.failures.values.first?.message.contains("worker 7 means worker 1") == true })
    }

    @Test func theNextEpochUsesTheSameNumbersAndSeesNothingOfTheLast() async throws {
        let channel = try OneChannel()
        #expect(await channel.send([1]))
        #expect(await eventually { channel.input.count == 1 })
        channel.from.close()
        channel.to.close()
        #expect(channel.output.trySend([2]) == false)
        #expect(channel.output.isClosed)
        #expect(channel.input.receive() == nil)
        let (from, to) = (channel.a.begin(2, with: [channel.a, channel.b]), channel.b.begin(2, with: [channel.a, channel.b]))
        let output = from.openOutput(channel: 7, to: 1, wake: {})
        let input = to.openInput(channel: 7, from: 0, wake: {})
        from.activate()
        to.activate()
        #expect(await eventually { output.trySend([3]) })
        var frame: [UInt8]?
        #expect(
            await eventually {
                frame = input.receive()
                return frame != nil
            })
        #expect(frame == [3])
        #expect(channel.a.failures.values.isEmpty)
        #expect(channel.b.failures.values.isEmpty)
    }

    // MARK: Failures

    @Test func anOrderlyEndOfThePeerIsNoFailure() async throws {
        let channel = try OneChannel()
        #expect(await channel.send([1]))
        #expect(await channel.receive() == [1])
        channel.to.close()
        #expect(await eventually { channel.output.isClosed })
        #expect(channel.a.failures.values.isEmpty)
    }

    @Test func aLostConnectionIsReportedOnceAndWhatCameCanStillBeTaken() async throws {
        let b = try TestWorker(1)
        let ghost = ExchangePeer(index: 0, worker: WorkerID("w0"), host: "127.0.0.1", port: 1)
        let failures = b.failures
        let to = b.exchange.beginEpoch(Epoch(1), worker: 1, peers: [b.peer, ghost]) { failures.append($0) }
        let waker = TestWaker()
        let input = to.openInput(channel: 0, from: 0, wake: waker.wake)
        to.activate()
        let raw = try RawSocket(port: b.exchange.port)
        raw.write(hello() + data([9]))
        #expect(await eventually { input.count == 1 })
        shutdownWrites(raw)
        #expect(await eventually { b.failures.values.count == 1 })
        #expect("\(b.failures.values[0])" == "lost the data connection with worker w0: it closed the connection")
        #expect(input.isClosed)
        #expect(input.receive() == [9])
    }

    @Test func aWorkerThatCannotBeReachedIsAFailureThatNamesIt() async throws {
        let a = try TestWorker(0)
        let failures = a.failures
        let gone = try { () -> UInt16 in try TestWorker(1).exchange.port }()
        let peer = ExchangePeer(index: 1, worker: WorkerID("w1"), host: "127.0.0.1", port: gone)
        let epoch = a.exchange.beginEpoch(Epoch(1), worker: 0, peers: [a.peer, peer]) { failures.append($0) }
        let waker = TestWaker()
        let output = epoch.openOutput(channel: 1, to: 1, wake: waker.wake)
        epoch.activate()
        #expect(await eventually { failures.values.count == 1 })
        #expect(failures.values[0].worker == WorkerID("w1"))
        #expect(failures.values[0].message == "cannot connect to 127.0.0.1:\(gone): Connection refused")
        #expect(output.isClosed)
        #expect(waker.wakes > 0)
    }

    private func hello(epoch: UInt32 = 1, sender: UInt32 = 0) -> [UInt8] {
        let payload = ExchangeHello(job: testJob, epoch: Epoch(epoch), sender: sender, receiver: 1, token: "").encoded()
        var bytes: [UInt8] = []
        ExchangeHeader(payloadBytes: payload.count, channel: 0, sequence: 0, kind: .hello).append(payload, to: &bytes)
        return bytes
    }

    private func data(_ payload: [UInt8], channel: UInt32 = 0, sequence: UInt32 = 0) -> [UInt8] {
        var bytes: [UInt8] = []
        ExchangeHeader(payloadBytes: payload.count, channel: channel, sequence: sequence, kind: .data).append(payload, to: &bytes)
        return bytes
    }

    @Test func aSenderThatBreaksTheRulesFailsTheEpoch() async throws {
        let broken: [(bytes: [UInt8], words: String)] = [
            (data([1], sequence: 5), "frame 5 of channel 0 came in the place of frame 0"),
            (data([1], channel: 3), "data for channel 3, which it does not have"),
            ((0..<3).flatMap { data([1], sequence: $0) }, "channel 0 sent more than its credits"),
            (hello(), "a frame of kind hello at the wrong time"),
            ([UInt8](repeating: 0xFF, count: 16), "unknown frame version 255"),
        ]
        for (bytes, words) in broken {
            let b = try TestWorker(1) { $0.creditsPerChannel = 2 }
            let failures = b.failures
            let ghost = ExchangePeer(index: 0, worker: WorkerID("w0"), host: "127.0.0.1", port: 1)
            let to = b.exchange.beginEpoch(Epoch(1), worker: 1, peers: [b.peer, ghost]) { failures.append($0) }
            _ = to.openInput(channel: 0, from: 0, wake: {})
            to.activate()
            let raw = try RawSocket(port: b.exchange.port)
            raw.write(hello() + bytes)
            #expect(await eventually { failures.values.map(\.message) == ["it broke the protocol: \(words)"] }, "\(failures.values)")
            #expect(raw.readToEnd() != nil)
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>) func garbageIsRefusedAndTheOthersGoOn(seed: UInt64) async throws {
        var random = SplitMix64(seed: seed)
        let channel = try OneChannel { $0.connectTimeout = .milliseconds(300) }
        let raw = try RawSocket(port: channel.b.exchange.port)
        var bytes = hello(epoch: 1, sender: 1) + data([1, 2, 3])
        if seed.isMultiple(of: 3) {
            bytes = (0..<300).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        } else {
            bytes[Int.random(in: bytes.indices, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
        }
        raw.write(bytes)
        shutdownWrites(raw)
        #expect(raw.readToEnd() != nil)
        #expect(await channel.send([7]))
        #expect(await channel.receive() == [7])
    }

    @Test func channelNumbersAreDenseAndDistinct() throws {
        let numbering = try #require(ChannelNumbering(edges: [(from: 2, to: 3), (from: 1, to: 1), (from: 3, to: 2)]))
        var all: [UInt32] = []
        for (edge, (from, to)) in [(2, 3), (1, 1), (3, 2)].enumerated() {
            for source in 0..<from { for target in 0..<to { all.append(numbering.channel(edge: edge, from: source, to: target)) } }
        }
        #expect(all == Array(0..<13))
        #expect(ChannelNumbering(edges: [(from: 1 << 19, to: 1 << 19)]) == nil)
    }
}
