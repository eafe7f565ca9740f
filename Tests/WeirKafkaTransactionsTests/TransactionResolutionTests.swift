import Testing
import WeirBase
import WeirKafkaWire

@testable import WeirKafkaTransactions

/// How a transaction that a checkpoint names is committed from outside, answer by answer.
@Suite struct TransactionResolutionTests {
    private static let session = ProducerSession(producerID: 7, epoch: 3)
    private static let later = ProducerSession(producerID: 7, epoch: 4)
    private let now = Instant(nanoseconds: 0)

    private func transaction(base: CommitMarker? = nil) -> PreparedTransaction {
        PreparedTransaction(
            id: TransactionalID(prefix: "p", subtask: 0, index: 1), session: Self.session, checkpoint: 5, markerTopic: "out", baseMarker: base,
            begunAt: 1_000, timeoutMilliseconds: 60_000, records: 9)
    }

    private func resolution(base: CommitMarker? = nil, _ answers: TransactionResolution.Answer...) -> TransactionResolution.Step {
        var resolution = TransactionResolution(transaction(base: base), giveUpAt: Instant(nanoseconds: 1_000_000_000))
        for answer in answers { resolution.handle(answer, now: now) }
        return resolution.step
    }

    @Test(arguments: [
        CommitMarker(session: session, checkpoint: 5), CommitMarker(session: session, checkpoint: 8), CommitMarker(session: later, checkpoint: 5),
    ])
    func aMarkerAtOrAboveItProvesTheCommitWithoutEndTxn(marker: CommitMarker) {
        #expect(resolution(.marker(marker)) == .done(.committed))
    }

    @Test func theMarkerFromBeforeTheSessionProvesNothingWhateverItsCheckpoint() {
        // A fork numbers its checkpoints anew: the marker may be of a higher one, and of another history.
        let base = CommitMarker(session: ProducerSession(producerID: 7, epoch: 2), checkpoint: 100)
        #expect(resolution(base: base, .marker(base)) == .endTransaction)
        let lost = resolution(base: base, .marker(base), .ended(.producerFenced), .marker(base))
        #expect(lost.isLost)
    }

    @Test func anOlderMarkerOfTheSessionProvesNothing() {
        #expect(resolution(.marker(CommitMarker(session: Self.session, checkpoint: 4))) == .endTransaction)
    }

    @Test func whatIsNotOpenIsLookedUpOnceMoreBeforeItIsLost() {
        for code in [KafkaErrorCode.invalidProducerEpoch, .producerFenced, .invalidTxnState, .invalidProducerIDMapping, .transactionalIDNotFound] {
            #expect(resolution(.marker(nil), .ended(code)) == .fetchMarker(stable: true))
            #expect(resolution(.marker(nil), .ended(code), .marker(nil)).isLost)
            let marker = CommitMarker(session: Self.session, checkpoint: 5)
            #expect(resolution(.marker(nil), .ended(code), .marker(marker)) == .done(.committed))
        }
    }

    @Test func anUnstableMarkerIsWaitedFor() {
        let step = resolution(.marker(nil), .ended(.producerFenced), .markerFailed(.unstableOffsetCommit), .waited)
        #expect(step == .fetchMarker(stable: true))
    }

    @Test func askingAgainBacksOffAndEnds() {
        var resolution = TransactionResolution(transaction(), giveUpAt: Instant(nanoseconds: 1_000_000_000))
        resolution.handle(.marker(nil), now: now)
        var waits: [Duration] = []
        for _ in 0..<8 {
            resolution.handle(.ended(.concurrentTransactions), now: now)
            if case .wait(let duration) = resolution.step { waits.append(duration) }
            resolution.handle(.waited, now: now)
            #expect(resolution.step == .endTransaction)
        }
        #expect(waits.first == .milliseconds(20) && waits.last == .seconds(1) && zip(waits, waits.dropFirst()).allSatisfy { $0 <= $1 })
        resolution.handle(.unreachable("no route"), now: Instant(nanoseconds: 1_000_000_000))
        guard case .done(.unknown(let failure)) = resolution.step else {
            Issue.record("\(resolution.step)")
            return
        }
        #expect(failure.recovery == .restart && failure.cause == "no route")
    }

    @Test func anOffsetOfSomebodyElseIsAFailure() {
        guard case .done(.unknown(let failure)) = resolution(.foreignMarker("mine")) else {
            Issue.record("a foreign marker is taken for something")
            return
        }
        #expect(failure.recovery == .fail)
    }

    // MARK: Names and state

    @Test func namesAreReadByTheirLastTwoNumbers() {
        let id = TransactionalID(prefix: "a-1", subtask: 12, index: 3)
        #expect(TransactionalID("a-1-12-3", prefix: "a-1") == id)
        for name in ["a-1-12-3", "a-1", "a-01-1", "a--1-1", "a-1-", "b-1-1", "a-1-99999999999"] {
            #expect(TransactionalID(name, prefix: "a") == nil, "\(name)")
        }
    }

    @Test func markersAreReadAsTheyAreWritten() {
        let marker = CommitMarker(session: Self.session, checkpoint: 5)
        #expect(CommitMarker(offset: 5, metadata: marker.metadata) == marker)
        for metadata in ["", "weir", "weir 2 7 3", "weir 1 7 x", "weir 1 7 3 4"] { #expect(CommitMarker(offset: 5, metadata: metadata) == nil) }
    }

    @Test func stateIsReadAsItIsWrittenAndDamageIsToldNotTrapped() throws {
        let base = CommitMarker(session: Self.later, checkpoint: 2)
        let entries: [SinkState] = [
            .pool(ProducerPool(prefix: "p", subtask: 3, size: 4)), .transaction(transaction()), .transaction(transaction(base: base)),
        ]
        for entry in entries {
            let bytes = entry.encode()
            #expect(try SinkState(decoding: bytes) == entry)
            for count in bytes.indices { #expect(throws: DecodingFailure.self) { try SinkState(decoding: Array(bytes[..<count])) } }
            for index in bytes.indices {
                var damaged = bytes
                damaged[index] ^= 0xFF
                _ = try? SinkState(decoding: damaged)
            }
        }
        #expect(throws: DecodingFailure.self) { try SinkState(decoding: SinkState.pool(ProducerPool(prefix: "p", subtask: 0, size: 4_097)).encode()) }
    }

    @Test func bootstrapServersAreRead() throws {
        let found = try KafkaAddress.list(" a:1, [::1]:2,PLAINTEXT://b:3,c")
        #expect(found.map(\.description) == ["a:1", "[::1]:2", "b:3", "c:9092"])
        for text in ["", "a:x", ":1", "a:99999"] { #expect(throws: KafkaClientFailure.self) { try KafkaAddress.list(text) } }
    }
}

extension TransactionResolution.Step {
    fileprivate var isLost: Bool { if case .done(.lost) = self { true } else { false } }
}
