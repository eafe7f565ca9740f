import Testing
import WeirBase
import WeirDataflow
import WeirFormats
import WeirStreams

@testable import WeirKafka

@Suite struct SourceSettingsTests {
    private func problems(_ source: KafkaSource<KafkaValues<StringFormat>>) -> [String] {
        do {
            try source.validate()
            return []
        } catch {
            return (error as? ConfigurationError)?.problems ?? ["\(error)"]
        }
    }

    private let plain = KafkaSource("h:1", topics: ["a"], format: StringFormat())

    @Test func validationTellsEveryProblem() {
        let source = KafkaSource("", topics: [], format: StringFormat()).starting(at: .committed(otherwise: .fail))
            .property("auto.offset.reset", "latest")
        #expect(problems(source).count == 4)
        #expect(problems(plain) == [])
    }

    @Test func committingWithoutAGroupIsRefused() {
        #expect(problems(plain.commitOnCheckpoint(true)) == ["a Kafka source that commits offsets needs a group: add .group(\"…\")"])
        #expect(problems(plain.property("enable.auto.commit", "true")).first?.contains("enable.auto.commit needs a group") == true)
        #expect(problems(plain.stopping(at: .committed)).count == 1)
        #expect(problems(plain.commitOnCheckpoint(false).property("enable.auto.commit", "false")) == [])
        #expect(problems(plain.group("g").commitOnCheckpoint(true).property("enable.auto.commit", "true")) == [])
        #expect(problems(plain.group("g").property("auto.commit.interval.ms", "0")).count == 1)
    }

    @Test func subscriptionsAreChecked() {
        func of(_ subscription: KafkaSubscription) -> [String] {
            problems(KafkaSource("h:1", subscription, schema: KafkaValues(StringFormat())))
        }
        #expect(of(.pattern("tele.*")) == [])
        #expect(of(.pattern("tele(")).first?.hasPrefix("the topic pattern \"tele(\" is no regular expression") == true)
        #expect(of(.pattern("")).count == 1)
        #expect(of(.partitions(["a": [0, 3]])) == [])
        #expect(of(.partitions(["a": []])) == ["a Kafka source needs at least one partition"])
        #expect(of(.partitions(["a": [0, 0, -1]])).count == 2)
        #expect(of(.topics(["a", "a"])).count == 1)
    }

    @Test func negativeOffsetsAndADeadLetterLoopAreRefused() {
        #expect(
            problems(plain.starting(at: .offsets(["a": [0: -5]], otherwise: .fail))) == [
                "the start offset -5 of a[0] is negative: offsets count from 0"
            ])
        #expect(problems(plain.stopping(at: .offsets(["a": [0: -1]]))).count == 1)
        #expect(problems(plain.onPoison(.deadLetter(topic: "a"))).first?.contains("for ever") == true)
        #expect(problems(plain.onPoison(.deadLetter(topic: "letters"))) == [])
    }

    @Test func optionsWinOverTheProgramAndThoseOfTheSourceOverThoseOfAll() throws {
        let options = [
            "kafka.property.bootstrap.servers": "all:1", "kafka.property.client.id": "all", "kafka.in.property.client.id": "mine",
            "kafka.other.property.client.id": "other", "kafka.in.topics": "x, y", "execution.checkpointing.interval": "1s",
        ]
        let settings = try plain.property("client.id", "program").settings.configured(by: options, uid: "in")
        #expect(settings.bootstrap == "all:1")
        #expect(settings.properties["client.id"] == "mine")
        #expect(settings.subscription == .topics(["x", "y"]))
        #expect(try plain.settings.configured(by: ["kafka.in.topic-pattern": "x.*"], uid: "in").subscription == .pattern("x.*"))
        #expect(throws: ConfigurationError.self) { try plain.settings.configured(by: ["kafka.in.property.auto.offset.reset": "latest"], uid: "in") }
        #expect(throws: ConfigurationError.self) {
            try plain.settings.configured(by: ["kafka.in.topics": "x", "kafka.in.topic-pattern": "y"], uid: "in")
        }
    }

    @Test func optionsThatMeanNothingAreTold() {
        let settings = [
            "kafka.property.a": "1", "kafka.in.topics": "x", "kafka.in.topicc": "x", "kafka.inn.topics": "x", "kafka.a.b.property.c": "1",
        ]
        let problems = KafkaProperties.problems(with: settings, uids: ["in", "a.b"])
        #expect(problems.count == 2)
        #expect(problems.first?.hasPrefix("kafka.in.topicc: of an operator these can be set") == true)
        #expect(problems.last == "kafka.inn.topics: no operator of the job has such a uid; there are a.b, in")
    }

    @Test func deadLettersReachTheClusterAsTheSourceDoes() throws {
        let source = plain.property("security.protocol", "SASL_SSL").property("sasl.password", "hush").property("fetch.max.bytes", "1000000")
        #expect(source.settings.deadLetterProperties.pairs.map(\.key) == ["bootstrap.servers", "sasl.password", "security.protocol"])
    }

    @Test func secretsAreMasked() {
        let properties: KafkaProperties = ["sasl.password": "hush", "sasl.username": "me", "ssl.key.pem": "hush", "ssl.key.password": "hush"]
        #expect(!"\(properties)".contains("hush"))
        #expect("\(properties)".contains("sasl.username=me"))
    }
}

@Suite struct SourceStateTests {
    @Test func positionsKeepTheirBytes() throws {
        let position = KafkaPosition(split: KafkaPartition("telemetries", 3), next: 42, stop: 99, greatest: -7, hasEnded: true)
        #expect(try KafkaPosition(decoding: position.encode()) == position)
        let bytes: [UInt8] =
            [2, 11] + Array("telemetries".utf8) + [3, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0]
            + [0xF9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]
        #expect(position.encode() == bytes)
        for count in bytes.indices { #expect(throws: DecodingFailure.self) { try KafkaPosition(decoding: Array(bytes[..<count])) } }
        #expect(throws: DecodingFailure.self) { try KafkaPosition(decoding: bytes + [0]) }
        #expect(throws: DecodingFailure.self) { try KafkaPosition(decoding: bytes.dropLast() + [2]) }
    }

    @Test func startingSharesKeepTheirBytes() throws {
        let share = KafkaStartingShare(subtask: 2, parallelism: 5)
        #expect(share.encode() == [1, 2, 0, 0, 0, 5, 0, 0, 0])
        #expect(try KafkaStartingShare(decoding: share.encode()) == share)
        #expect(throws: DecodingFailure.self) { try KafkaStartingShare(decoding: [1, 5, 0, 0, 0, 5, 0, 0, 0]) }
        for count in 0..<9 { #expect(throws: DecodingFailure.self) { try KafkaStartingShare(decoding: Array(share.encode()[..<count])) } }
    }

    @Test func aPositionIsFinishedAtItsStopAndNotBefore() {
        let split = KafkaPartition("a", 0)
        #expect(KafkaPosition(split: split, next: 5, stop: 5).isFinished)
        #expect(!KafkaPosition(split: split, next: 4, stop: 5).isFinished)
        #expect(!KafkaPosition(split: split, next: KafkaPosition.earliest, stop: 0).isFinished)
        #expect(KafkaPosition(split: split, next: 5, hasEnded: true).isFinished)
    }

    @Test(arguments: 1...9) func assignmentIsBalancedAndComplete(parallelism: Int) {
        let topics = ["a", "b", "c", "d"]
        let assignment = KafkaAssignment(.topics(topics), parallelism: parallelism)
        let all = topics.flatMap { topic in (0..<4).map { KafkaPartition(topic, $0) } }
        let shares = Dictionary(grouping: all) { assignment.owner(of: $0) ?? -1 }
        #expect(shares.keys.allSatisfy { (0..<parallelism).contains($0) })
        let counts = (0..<parallelism).map { shares[$0]?.count ?? 0 }
        #expect(counts.reduce(0, +) == 16)
        // A topic's partitions never differ by more than one between subtasks.
        for topic in topics {
            let own = (0..<parallelism).map { subtask in shares[subtask, default: []].count { $0.topic == topic } }
            #expect((own.max() ?? 0) - (own.min() ?? 0) <= 1)
        }
        if [1, 2, 4].contains(parallelism) { #expect(Set(counts).count == 1) }
    }

    @Test func assignmentDependsOnNothingThatChangesWhileTheJobRuns() {
        // Of a pattern, new topics come at any time, and subtasks see them at different times.
        let assignment = KafkaAssignment(.pattern("t-.*"), parallelism: 7)
        #expect(
            (0..<20).map { assignment.owner(of: KafkaPartition("t-1", $0)) }
                == (0..<20).map { _ in 0 }.enumerated().map { index, _ in
                    ((assignment.owner(of: KafkaPartition("t-1", 0)) ?? 0) + index) % 7
                })
        #expect(assignment.owner(of: KafkaPartition("other", 0)) == nil)
        #expect(assignment.owner(of: KafkaPartition("x-t-1", 0)) == nil, "the whole name must match")
        // Savepoints depend on the hash of the name.
        #expect(KafkaAssignment(.pattern("t-.*"), parallelism: 1_000).owner(of: KafkaPartition("t-1", 0)) == Int(KeyHash.hash("t-1") % 1_000))
    }

    @Test func namedPartitionsAreDealtOutOneByOne() {
        let assignment = KafkaAssignment(.partitions(["b": [7], "a": [9, 0]]), parallelism: 2)
        #expect(assignment.owner(of: KafkaPartition("a", 0)) == 0)
        #expect(assignment.owner(of: KafkaPartition("a", 9)) == 1)
        #expect(assignment.owner(of: KafkaPartition("b", 7)) == 0)
        #expect(assignment.owner(of: KafkaPartition("a", 1)) == nil)
    }

    @Test func aPatternLeavesKafkasOwnTopicsOut() {
        #expect(!KafkaTopicPattern(".*").matches("__consumer_offsets"))
        #expect(KafkaTopicPattern("__.*").matches("__consumer_offsets"))
        #expect(KafkaTopicPattern(".*").matches("telemetries"))
    }
}

@Suite struct SourceClockTests {
    private let millisecond: Int64 = 1_000_000

    @Test func itStandsStillUnderBackPressure() {
        var clock = KafkaSourceClock()
        clock.advance(to: 0, backPressured: 0)
        clock.advance(to: 1_000 * millisecond, backPressured: 0)
        #expect(clock.now == 1_000 * millisecond)
        clock.advance(to: 61_000 * millisecond, backPressured: Int(60_000 * millisecond))
        #expect(clock.now == 1_000 * millisecond)
        clock.advance(to: 62_000 * millisecond, backPressured: Int(60_500 * millisecond))
        #expect(clock.now == 1_500 * millisecond)
    }

    @Test func aSourceThatWaitsForItsTurnIsNotSilent() {
        var clock = KafkaSourceClock()
        clock.advance(to: 0, backPressured: 0)
        clock.wantsMore = true
        clock.advance(to: 5_000 * millisecond, backPressured: 0)
        #expect(clock.now == 10 * millisecond)
    }
}

@Suite struct KafkaCommitsTests {
    private let split = KafkaPartition("a", 0)
    private func settings(_ properties: KafkaProperties) -> KafkaSourceSettings {
        KafkaSourceSettings(properties: properties, subscription: .topics(["a"]))
    }

    @Test func onlyACompletedCheckpointCommitsAndForgetsThoseBefore() {
        var commits = KafkaCommits()
        commits.start(settings(["group.id": "g"]), now: Instant(nanoseconds: 0))
        for checkpoint in 1...3 as ClosedRange<UInt64> { commits.snapshot(checkpoint, [KafkaPosition(split: split, next: Int64(checkpoint))]) }
        commits.aborted(3)
        #expect(commits.completed(2).map(\.offset) == [2])
        #expect(commits.completed(1).isEmpty)
        #expect(commits.completed(3).isEmpty)
    }

    @Test func withoutAGroupNothingIsCommitted() {
        var commits = KafkaCommits()
        commits.start(settings([:]), now: Instant(nanoseconds: 0))
        commits.snapshot(1, [KafkaPosition(split: split, next: 1)])
        #expect(commits.completed(1).isEmpty)
        #expect(commits.autoCommitAt == nil)
    }

    @Test func positionsThatAreNoOffsetsAreLeftOut() {
        var commits = KafkaCommits()
        commits.start(settings(["group.id": "g"]), now: Instant(nanoseconds: 0))
        commits.snapshot(1, [KafkaPosition(split: split, next: KafkaPosition.earliest), KafkaPosition(split: split, next: KafkaPosition.unresolved)])
        #expect(commits.completed(1).isEmpty)
    }

    @Test func pendingCheckpointsAreBounded() {
        var commits = KafkaCommits()
        commits.start(settings(["group.id": "g"]), now: Instant(nanoseconds: 0))
        for checkpoint in 1...65 as ClosedRange<UInt64> { commits.snapshot(checkpoint, [KafkaPosition(split: split, next: Int64(checkpoint))]) }
        #expect(commits.completed(1).isEmpty)
        #expect(commits.completed(2).map(\.offset) == [2])
    }

    @Test func autoCommitTellsWhatChangedAtItsInterval() {
        var commits = KafkaCommits()
        commits.start(settings(["group.id": "g", "enable.auto.commit": "true", "auto.commit.interval.ms": "10"]), now: Instant(nanoseconds: 0))
        let due = [9_999_999, 10_000_000, 10_000_001].map { commits.isAutoCommitDue(now: Instant(nanoseconds: $0)) }
        #expect(due == [false, true, false])
        #expect(commits.auto([KafkaPosition(split: split, next: 7)]).map(\.offset) == [7])
        #expect(commits.auto([KafkaPosition(split: split, next: 7)]).isEmpty)
        #expect(commits.auto([KafkaPosition(split: split, next: 8)]).map(\.offset) == [8])
    }
}
