import Foundation
import Testing
import WeirBase
import WeirKafkaWire

/// Bytes from outside are never trusted: each of these is an error that says where, and none a trap.
@Suite struct MalformedTests {
    private func reader(_ hexadecimal: String) -> MessageReader { MessageReader(KafkaBytes(unhex(hexadecimal))) }

    private func failure(_ body: () throws(DecodingFailure) -> Void) -> String? {
        do throws(DecodingFailure) {
            try body()
            return nil
        } catch {
            return error.message
        }
    }

    private func decode(_ api: ApiKey, _ version: Int16, _ message: [UInt8]) -> String? {
        let schema = ApiSchema.of(api)
        return failure { () throws(DecodingFailure) in
            var reader = MessageReader(KafkaBytes(message))
            _ = try schema.request.decode(&reader, version: version, flexible: schema.isFlexible(version))
            try reader.expectEnd()
        }
    }

    @Test func lengthsBeyondTheEndAreErrors() {
        #expect(decode(.saslHandshake, 0, unhex("7fff61"))?.contains("32767 more bytes expected, 1 left") == true)
        #expect(decode(.saslHandshake, 0, unhex("fffe"))?.contains("a length of -2") == true)
        #expect(decode(.saslHandshake, 0, unhex("ffff")) == "mechanism must not be null")
        #expect(decode(.saslHandshake, 0, unhex("0001ff")) == "invalid UTF-8")
        #expect(decode(.saslHandshake, 0, unhex("00016100")) == "1 bytes left over")
        #expect(decode(.saslHandshake, 0, []) == "2 more bytes expected, 0 left")
    }

    @Test func countsBeyondTheEndAreErrors() {
        #expect(decode(.metadata, 1, unhex("7fffffff"))?.contains("an array of 2147483647 elements") == true)
        #expect(decode(.metadata, 1, unhex("fffffffe"))?.contains("a length of -2") == true)
        #expect(decode(.metadata, 9, unhex("ffffffff0f"))?.contains("elements in") == true)
    }

    @Test func aMessageMayHaveAMillionElementsAndNoMore() {
        func request(_ names: Int) -> [UInt8] {
            var writer = MessageWriter()
            writer.integer(Int8(0))
            writer.unsignedVarint(UInt32(names) + 1)
            return joined(writer.finish()).array + [UInt8](repeating: 1, count: names) + [0]
        }
        #expect(decode(.findCoordinator, 4, request(MessageLimits.elementsMax)) == nil)
        #expect(decode(.findCoordinator, 4, request(MessageLimits.elementsMax + 1)) == "more than 1000000 elements in one message")
    }

    @Test func varintsHave32BitsOr64AndNoMore() throws {
        var largest = reader("ffffffff0f")
        #expect(try largest.unsignedVarint() == UInt32.max)
        for text in ["ffffffff10", "808080808000", "ffffffffff01"] {
            #expect(
                failure { () throws(DecodingFailure) in
                    var reader = reader(text)
                    _ = try reader.unsignedVarint()
                } == "a varint of more than 32 bits")
        }
        for value in [0, 1, -1, 63, -64, Int64.max, Int64.min] {
            var writer = MessageWriter()
            writer.varint(value)
            var back = MessageReader(joined(writer.finish()))
            #expect(try back.varint() == value)
            #expect(back.remaining == 0)
        }
        #expect(
            failure { () throws(DecodingFailure) in
                var reader = reader("ffffffffffffffffff02")
                _ = try reader.varint()
            } == "a varint of more than 64 bits")
    }

    @Test func taggedFieldsThatNobodyKnowsAreSkippedAndTheirOrderChecked() {
        // Two empty strings, then tagged fields.
        #expect(decode(.apiVersions, 3, unhex("0101" + "02" + "0501aa" + "0600")) == nil)
        #expect(decode(.apiVersions, 3, unhex("0101" + "02" + "0501aa" + "0500")) == "tag 5 after tag 5")
        #expect(decode(.apiVersions, 3, unhex("0101" + "01" + "0502aa"))?.contains("more bytes expected") == true)
        func tags(_ count: UInt8) -> [UInt8] { [1, 1, count] + (0..<count).flatMap { [$0 + 10, 0] } }
        #expect(decode(.apiVersions, 3, tags(UInt8(MessageLimits.tagsMax))) == nil)
        #expect(decode(.apiVersions, 3, tags(UInt8(MessageLimits.tagsMax) + 1)) == "65 tagged fields")
    }

    @Test(arguments: ForeignMessage.all) func everyTruncationIsAnError(message: ForeignMessage) {
        for count in 0..<message.bytes.count {
            #expect(
                failure { () throws(DecodingFailure) in
                    var reader = MessageReader(KafkaBytes(Array(message.bytes[..<count])))
                    _ = try message.schema.decode(&reader, version: message.version, flexible: message.isFlexible)
                    try reader.expectEnd()
                } != nil)
        }
    }

    /// The fuzz target over the request decoder: what it takes is written again, and what it refuses says why. `WEIR_FUZZ_ROUNDS` sets the rounds.
    @Test(arguments: ApiKey.allCases) func mutatedRequestsNeverTrap(api: ApiKey) {
        let rounds = ProcessInfo.processInfo.environment["WEIR_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 300
        var random = SplitMix(seed: UInt64(api.rawValue))
        var taken = 0
        var refused = 0
        for message in ForeignMessage.all where message.api == api && message.isRequest {
            let frame = [UInt8](repeating: 0, count: 8) + [0xFF, 0xFF] + (message.isFlexible ? [0] : []) + message.bytes
            for _ in 0..<rounds {
                var mutated = frame
                mutated[0...1] = [UInt8(truncatingIfNeeded: api.rawValue >> 8), UInt8(truncatingIfNeeded: api.rawValue)]
                random.mutate(&mutated, from: 8)
                let outcome = failure { () throws(DecodingFailure) in
                    let (_, reader) = try KafkaMessage.header(of: KafkaBytes(mutated))
                    let body = try KafkaMessage.requestBody(reader, api: ApiSchema.of(api), version: message.version)
                    _ = KafkaMessage.request(api, version: message.version, correlationID: 0, clientID: nil, body: body)
                }
                if let outcome {
                    refused += 1
                    #expect(!outcome.isEmpty)
                } else {
                    taken += 1
                }
            }
        }
        #expect(refused > 0, "the mutations damage something")
        #expect(taken + refused >= rounds)
    }

    @Test func mutatedRecordBatchesNeverTrap() {
        var random = SplitMix(seed: 99)
        let record = BatchRecord(key: KafkaBytes([1]), value: nil, timestamp: 5, headers: [("h", nil), ("g", KafkaBytes([2, 3]))])
        let batch = RecordBatch.build([record, record, record], producerID: 4, producerEpoch: 1, baseSequence: 0).array
        for _ in 0..<20_000 {
            var mutated = batch
            random.mutate(&mutated, from: 0)
            _ = failure { () throws(DecodingFailure) in
                let bytes = KafkaBytes(mutated)
                let header = try RecordBatchHeader(bytes)
                _ = RecordBatch.hasValidCRC(header, in: bytes)
                try RecordBatch.forEachRecord(header, in: bytes) { (_, _) throws(DecodingFailure) in }
            }
        }
    }
}

/// Random numbers of a seed.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Changes, inserts, removes or repeats a few bytes behind a place.
    mutating func mutate(_ bytes: inout [UInt8], from start: Int) {
        for _ in 0..<Int.random(in: 1...4, using: &self) {
            guard bytes.count > start else { return }
            let index = Int.random(in: start..<bytes.count, using: &self)
            switch Int.random(in: 0..<5, using: &self) {
            case 0: bytes[index] = UInt8.random(in: 0...255, using: &self)
            case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &self)
            case 2: bytes.insert([0, 0x7F, 0x80, 0xFF].randomElement(using: &self) ?? 0, at: index)
            case 3: bytes.remove(at: index)
            default: bytes.removeSubrange(index...)
            }
        }
    }
}
