import Testing
import WeirBase

@testable import WeirKafka

private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }
private let a0 = KafkaPartition("a", 0)
private let a1 = KafkaPartition("a", 1)
private let unreachable = JobFailure(domain: .external, recovery: .restart, message: "no Kafka broker answered")

private func settings(_ topics: String..., change: (inout KafkaSourceSettings) -> Void = { _ in }) -> KafkaSourceSettings {
    var settings = KafkaSourceSettings(properties: ["bootstrap.servers": "h:1"], subscription: .topics(topics))
    change(&settings)
    return settings
}

private func listing(_ topics: KeyValuePairs<String, KafkaListing.Topic>) -> KafkaSplitEnumerator.Event {
    .listed(KafkaListing(topics: Dictionary(topics.map { ($0.key, $0.value) }) { $1 }))
}

extension KafkaListing.Topic {
    fileprivate static func of(_ count: Int, leaderless: Set<Int32> = []) -> Self { .partitions(count, leaderless: leaderless) }
}

extension [KafkaSplitEnumerator.Effect] {
    fileprivate var read: [KafkaPosition] { compactMap { if case .read(let position) = $0 { position } else { nil } } }
    fileprivate var held: [KafkaPosition] { compactMap { if case .hold(let position) = $0 { position } else { nil } } }
    fileprivate var resolutions: [KafkaResolution] {
        compactMap { if case .resolve(let resolutions) = $0 { resolutions } else { nil } }.flatMap(\.self)
    }
    fileprivate var failure: JobFailure? { compactMap { if case .fail(let failure) = $0 { failure } else { nil } }.first }
    fileprivate var warnings: [String] { compactMap { if case .warn(let text) = $0 { text } else { nil } } }
    fileprivate var lists: Bool { contains { if case .list = $0 { true } else { false } } }
    fileprivate var dropped: [KafkaPartition] { compactMap { if case .drop(let partitions) = $0 { partitions } else { nil } }.flatMap(\.self) }
}

@Suite struct SplitEnumeratorTests {
    private func enumerator(
        _ settings: KafkaSourceSettings, subtask: Int = 0, of parallelism: Int = 1, restored: KafkaRestoredState? = nil
    ) -> (KafkaSplitEnumerator, [KafkaSplitEnumerator.Effect]) {
        var enumerator = KafkaSplitEnumerator(settings: settings, subtask: subtask, parallelism: parallelism, restored: restored)
        let effects = enumerator.start(now: at(0))
        return (enumerator, effects)
    }

    // MARK: Start

    @Test func earliestIsReadWithoutALookup() {
        var (it, started) = enumerator(settings("a"))
        #expect(started == [.list(known: [])])
        let effects = it.handle(listing(["a": .of(2, leaderless: [1])]), now: at(1))
        #expect(effects.read == [KafkaPosition(split: a0, next: -2), KafkaPosition(split: a1, next: -2)])
        #expect(effects.last == .settled)
    }

    @Test func latestIsHeldUntilItIsResolvedAndThenRead() {
        var (it, _) = enumerator(settings("a") { $0.start = .latest })
        let held = it.handle(listing(["a": .of(1)]), now: at(1))
        #expect(held.held == [KafkaPosition(split: a0, next: -3)])
        #expect(held.resolutions == [KafkaResolution(position: KafkaPosition(split: a0, next: -3), start: .latest, needsStop: false)])
        let read = it.handle(.resolved([KafkaPosition(split: a0, next: 17)], failure: nil), now: at(2))
        #expect(read.read == [KafkaPosition(split: a0, next: 17)])
    }

    @Test func eachSubtaskTakesItsShareOnly() {
        for subtask in 0..<3 {
            var (it, _) = enumerator(settings("b", "a"), subtask: subtask, of: 3)
            let read = it.handle(listing(["a": .of(3), "b": .of(3)]), now: at(1)).read.map(\.split)
            #expect(read == [KafkaPartition("a", Int32(subtask)), KafkaPartition("b", Int32((subtask + 2) % 3))])
        }
    }

    @Test func aMissingTopicFailsTheJobAndARestoredOneMayCome() {
        var (fresh, _) = enumerator(settings("a"))
        #expect(fresh.handle(listing(["a": .missing]), now: at(1)).failure?.recovery == .fail)
        var (restored, _) = enumerator(settings("a"), restored: KafkaRestoredState())
        #expect(restored.handle(listing(["a": .missing]), now: at(1)).failure?.recovery == .restart)
        var (refused, _) = enumerator(settings("a"))
        #expect(refused.handle(listing(["a": .failed("not allowed")]), now: at(1)).failure?.cause == "not allowed")
    }

    @Test func aMissingPartitionIsNamed() {
        var (it, _) = enumerator(settings { $0.subscription = .partitions(["a": [0, 5]]) })
        let failure = it.handle(listing(["a": .of(5)]), now: at(1)).failure
        #expect(failure?.message == "the Kafka partition a[5] does not exist at h:1: the topic has 5 partitions, from 0")
    }

    @Test func aPatternMayMatchNothingYet() {
        var (it, _) = enumerator(settings { $0.subscription = .pattern("a.*") })
        #expect(it.handle(listing([:]), now: at(1)) == [.settled])
        #expect(it.handle(listing(["a": .of(1)]), now: at(300_001)).read == [KafkaPosition(split: a0, next: -2)])
    }

    @Test func anUnreachableBrokerAtTheStartIsAFailure() {
        var (it, _) = enumerator(settings("a"))
        #expect(it.handle(.listingFailed(unreachable), now: at(1)) == [.fail(unreachable)])
    }

    @Test func aLookupThatFailsIsTriedAgainUntilItsTimeIsOver() {
        var (it, _) = enumerator(
            settings("a") {
                $0.start = .latest; $0.lookupTimeout = .seconds(2)
            })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        var now: Int64 = 1
        var failure: JobFailure?
        while failure == nil, now < 100_000 {
            let effects = it.handle(.resolved([], failure: unreachable), now: at(now))
            failure = effects.failure
            guard failure == nil else { break }
            #expect(effects.contains(.countDiscoveryError))
            now = (it.deadline?.nanoseconds ?? 0) / 1_000_000
            let again = it.handle(.tick, now: at(now))
            if again.lists { _ = it.handle(listing(["a": .of(1)]), now: at(now)) }
        }
        #expect(failure == unreachable)
        #expect((2_000...8_000).contains(now))
    }

    @Test func aPositionThatIsNotThereIsAFailureAtOnce() {
        let nowhere = JobFailure(domain: .configuration, recovery: .fail, message: "nowhere to start")
        var (it, _) = enumerator(settings("a") { $0.start = .latest })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        #expect(it.handle(.resolved([], failure: nowhere), now: at(1)) == [.fail(nowhere)])
    }

    // MARK: Leaders

    @Test func aPartitionWithoutALeaderHoldsNoOtherBack() {
        var (it, _) = enumerator(settings("a") { $0.start = .latest })
        let effects = it.handle(listing(["a": .of(2, leaderless: [1])]), now: at(0))
        #expect(effects.resolutions.map(\.position.split) == [a0])
        #expect(it.handle(.resolved([KafkaPosition(split: a0, next: 3)], failure: nil), now: at(10)).read.map(\.split) == [a0])
        // It is looked for again soon, and resolved by the same rule once it has one.
        let retry = it.handle(.tick, now: it.deadline ?? at(0))
        #expect(retry.lists || it.handle(.tick, now: it.deadline ?? at(0)).lists)
        #expect((it.deadline ?? at(0)) <= at(6_000) || it.deadline == nil)
        let found = it.handle(listing(["a": .of(2)]), now: at(700))
        #expect(found.resolutions == [KafkaResolution(position: KafkaPosition(split: a1, next: -3), start: .latest, needsStop: false)])
    }

    // MARK: Restore

    @Test func restoredPositionsWinAndAreReadBeforeAnythingIsAsked() {
        let state = KafkaRestoredState(positions: [KafkaPosition(split: a0, next: 40, greatest: 9), KafkaPosition(split: a1, next: 50)])
        let (_, started) = enumerator(settings("a") { $0.start = .latest }, subtask: 1, of: 2, restored: state)
        #expect(started == [.read(KafkaPosition(split: a1, next: 50)), .list(known: ["a"])])
    }

    @Test func whatNoCheckpointKnowsIsReadFromItsBeginning() {
        var (it, _) = enumerator(settings("a") { $0.start = .latest }, restored: KafkaRestoredState(positions: [KafkaPosition(split: a0, next: 40)]))
        #expect(it.handle(listing(["a": .of(2)]), now: at(1)).read == [KafkaPosition(split: a1, next: -2)])
    }

    @Test func theShareOfASubtaskThatHadNotStartedFollowsTheStartRule() {
        // At parallelism 2, subtask 1 had not looked up a[1] and a[3]; of a[2], subtask 0 would have known.
        let state = KafkaRestoredState(
            positions: [KafkaPosition(split: a0, next: 40)], starting: [KafkaStartingShare(subtask: 1, parallelism: 2)])
        var (it, _) = enumerator(settings("a") { $0.start = .latest }, restored: state)
        let effects = it.handle(listing(["a": .of(4)]), now: at(1))
        #expect(effects.resolutions.map(\.position.split.partition) == [1, 3])
        #expect(effects.resolutions.allSatisfy { $0.start == .latest })
        #expect(effects.read.map(\.split.partition) == [2])
    }

    @Test func aPositionThatWasNotLookedUpYetFollowsTheStartRule() {
        let state = KafkaRestoredState(positions: [KafkaPosition(split: a0, next: KafkaPosition.unresolved)])
        var (it, started) = enumerator(settings("a") { $0.start = .timestamp(5) }, restored: state)
        #expect(started.held == state.positions)
        #expect(it.handle(listing(["a": .of(1)]), now: at(1)).resolutions.map(\.start) == [.timestamp(5)])
    }

    @Test func aTopicMadeAnewSmallerIsAFailure() {
        var (it, _) = enumerator(settings("a"), restored: KafkaRestoredState(positions: [KafkaPosition(split: KafkaPartition("a", 5), next: 3)]))
        let failure = it.handle(listing(["a": .of(1)]), now: at(1)).failure
        #expect(failure?.message.hasPrefix("a[5] is in the checkpoint, but the topic has only 1 partitions") == true)
    }

    @Test func positionsOfTopicsThatAreReadNoMoreAreLeftAndTold() {
        let (_, started) = enumerator(settings("a"), restored: KafkaRestoredState(positions: [KafkaPosition(split: KafkaPartition("z", 0), next: 3)]))
        #expect(started.read.isEmpty)
        #expect(started.warnings == ["the checkpoint has positions in z, which the source does not read"])
    }

    // MARK: Ends

    @Test func aBoundedSourceLooksUpStartAndStopAndDiscoversNothing() {
        var (it, _) = enumerator(settings("a") { $0.stop = .latest })
        let effects = it.handle(listing(["a": .of(1)]), now: at(1))
        #expect(effects.resolutions == [KafkaResolution(position: KafkaPosition(split: a0, next: -3), start: .earliest, needsStop: true)])
        _ = it.handle(.resolved([KafkaPosition(split: a0, next: 0, stop: 9)], failure: nil), now: at(2))
        #expect(!it.discovers)
        #expect(it.deadline == nil)
    }

    @Test func aRestoredStopStaysAndAMissingOneIsLookedUp() {
        let state = KafkaRestoredState(positions: [KafkaPosition(split: a0, next: 4, stop: 9), KafkaPosition(split: a1, next: 4)])
        var (it, started) = enumerator(settings("a") { $0.stop = .latest }, restored: state)
        #expect(started.read == [KafkaPosition(split: a0, next: 4, stop: 9)])
        let effects = it.handle(listing(["a": .of(2)]), now: at(1))
        #expect(effects.resolutions == [KafkaResolution(position: KafkaPosition(split: a1, next: 4), start: nil, needsStop: true)])
    }

    @Test func withoutABoundARestoredStopIsForgotten() {
        let state = KafkaRestoredState(positions: [KafkaPosition(split: a0, next: 9, stop: 9)])
        #expect(enumerator(settings("a"), restored: state).1.read == [KafkaPosition(split: a0, next: 9)])
    }

    // MARK: Discovery

    @Test func newPartitionsAreLookedForAtTheIntervalAndReadFromTheirBeginning() {
        var (it, _) = enumerator(
            settings("a") {
                $0.discoveryInterval = .seconds(60); $0.start = .latest
            })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        _ = it.handle(.resolved([KafkaPosition(split: a0, next: 3)], failure: nil), now: at(1))
        #expect(it.deadline == at(60_000))
        #expect(it.handle(.tick, now: at(59_999)).isEmpty)
        #expect(it.handle(.tick, now: at(60_000)) == [.list(known: ["a"])])
        #expect(it.handle(.tick, now: at(61_000)).isEmpty, "nothing is asked twice at a time")
        #expect(it.handle(listing(["a": .of(2)]), now: at(61_000)) == [.read(KafkaPosition(split: a1, next: -2))])
        #expect(it.deadline == at(121_000))
    }

    @Test(arguments: [Duration.zero, .seconds(-1)]) func discoveryCanBeOff(interval: Duration) {
        var (it, _) = enumerator(settings("a") { $0.discoveryInterval = interval })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        #expect(it.deadline == nil)
        #expect(!it.discovers)
    }

    @Test func aDiscoveryThatFailsIsTriedAgainWithBackoffAndCounted() {
        var (it, _) = enumerator(settings("a"))
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        _ = it.handle(.tick, now: at(300_000))
        var pauses: [Int64] = []
        var now: Int64 = 300_000
        for _ in 0..<14 {
            let effects = it.handle(.listingFailed(unreachable), now: at(now))
            #expect(effects.contains(.countDiscoveryError))
            #expect(effects.failure == nil)
            let next = (it.deadline?.nanoseconds ?? 0) / 1_000_000
            pauses.append(next - now)
            now = next
            #expect(it.handle(.tick, now: at(now)).lists)
        }
        #expect(pauses.first == 100)
        #expect(pauses == pauses.sorted())
        #expect(pauses.last == 60_000)
    }

    @Test func aTopicThatCannotBeLookedAtDoesNotHoldUpTheOthers() {
        var (it, _) = enumerator(settings("a", "b"))
        _ = it.handle(listing(["a": .of(1), "b": .of(1)]), now: at(0))
        let effects = it.handle(listing(["a": .failed("not now"), "b": .of(2)]), now: at(300_000))
        #expect(effects.failure == nil)
        #expect(effects.read.map(\.split) == [KafkaPartition("b", 1)])
        #expect(effects.warnings.count == 1)
    }

    // MARK: Removal

    /// Lists a topic as missing until the enumerator is content, a tick apart.
    private func remove(_ it: inout KafkaSplitEnumerator, times: Int, from start: Int64) -> [KafkaSplitEnumerator.Effect] {
        var effects: [KafkaSplitEnumerator.Effect] = []
        for round in 0..<times { effects += it.handle(listing(["a": .missing]), now: at(start + Int64(round) * 1_000)) }
        return effects
    }

    @Test func aTopicCountsAsRemovedOnlyWhenTheBrokerSaysSoThreeTimes() {
        var (it, _) = enumerator(settings("a"))
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        #expect(remove(&it, times: 2, from: 300_000).isEmpty)
        #expect(it.deadline == at(302_000), "it is asked again soon")
        // One answer that it is there begins the count anew.
        _ = it.handle(listing(["a": .of(1)]), now: at(302_000))
        #expect(remove(&it, times: 2, from: 400_000).isEmpty)
        #expect(remove(&it, times: 1, from: 402_000).failure?.message.hasPrefix("the Kafka topic \"a\", which the source reads, was deleted") == true)
    }

    @Test func aListingWithoutTheTopicProvesNothing() {
        var (it, _) = enumerator(settings { $0.subscription = .pattern(".*") })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        for round in 1...5 { #expect(it.handle(listing([:]), now: at(Int64(round) * 300_000)).isEmpty) }
    }

    @Test func aRemovedTopicMayBeKeptOrDropped() {
        var (keeping, _) = enumerator(settings("a") { $0.removal = .keep })
        _ = keeping.handle(listing(["a": .of(1)]), now: at(0))
        let kept = remove(&keeping, times: 5, from: 300_000)
        #expect(kept.warnings.count == 1)
        #expect(kept.dropped.isEmpty)

        var (dropping, _) = enumerator(settings("a") { $0.removal = .drop })
        _ = dropping.handle(listing(["a": .of(2)]), now: at(0))
        #expect(remove(&dropping, times: 3, from: 300_000).dropped == [a0, a1])
        // Once it is back it is a new topic.
        #expect(dropping.handle(listing(["a": .of(1)]), now: at(400_000)).read == [KafkaPosition(split: a0, next: -2)])
    }

    @Test func aSuspicionOfTheClientIsLookedInto() {
        var (it, _) = enumerator(settings("a") { $0.discoveryInterval = .zero })
        _ = it.handle(listing(["a": .of(1)]), now: at(0))
        _ = it.handle(.suspected, now: at(10))
        #expect(it.deadline == at(1_010))
        #expect(it.handle(.tick, now: at(1_010)).lists)
    }

    @Test func aRestoredTopicThatIsGoneFollowsThePolicy() {
        let state = KafkaRestoredState(positions: [KafkaPosition(split: a0, next: 4)])
        var (it, _) = enumerator(settings("a") { $0.removal = .drop }, restored: state)
        let effects = remove(&it, times: 3, from: 0)
        #expect(effects.dropped == [a0])
        #expect(effects.last == .settled)
    }
}
