import Foundation
import Testing
import WeirBase
import WeirFormats

// Five readings in three blocks, as fastavro writes them with the sync marker 00 01 … 0f.
private let plainFile =
    "T2JqAQQUYXZyby5jb2RlYwhudWxsFmF2cm8uc2NoZW1h4gd7InR5cGUiOiAicmVjb3JkIiwgIm5hbWUiOiAiUmVhZGluZyIsICJmaWVsZHMiOiBbeyJuYW1l"
    + "IjogImNvbnRhaW5lcklEIiwgInR5cGUiOiAic3RyaW5nIn0sIHsibmFtZSI6ICJ0aW1lc3RhbXAiLCAidHlwZSI6ICJsb25nIn0sIHsibmFtZSI6ICJ0ZW1w"
    + "ZXJhdHVyZSIsICJ0eXBlIjogImRvdWJsZSJ9LCB7Im5hbWUiOiAiaHVtaWRpdHkiLCAidHlwZSI6IFsibnVsbCIsICJkb3VibGUiXX0sIHsibmFtZSI6ICJj"
    + "bzJfcHBtIiwgInR5cGUiOiAiZG91YmxlIn0sIHsibmFtZSI6ICJ1bml0IiwgInR5cGUiOiAic3RyaW5nIn0sIHsibmFtZSI6ICJvayIsICJ0eXBlIjogImJv"
    + "b2xlYW4ifSwgeyJuYW1lIjogInRhZ3MiLCAidHlwZSI6IHsidHlwZSI6ICJhcnJheSIsICJpdGVtcyI6ICJzdHJpbmcifX0sIHsibmFtZSI6ICJhIiwgInR5"
    + "cGUiOiAibG9uZyJ9LCB7Im5hbWUiOiAiYiIsICJ0eXBlIjogImludCJ9LCB7Im5hbWUiOiAib2JzZXJ2ZWQiLCAidHlwZSI6ICJsb25nIn1dfQAAAQIDBAUG"
    + "BwgJCgsMDQ4PBLABCsOGdmFygKCr/vliAAAAAAAAEUACAAAAAABASUAAAAAAABh5QAJDAQAABA4Kw4Z2YXKAoKv++WIAAAAAAAARQAIAAAAAAEBJQAAAAAAA"
    + "GHlAAkMBAAIEDgABAgMEBQYHCAkKCwwNDg8EsAEKw4Z2YXKAoKv++WIAAAAAAAARQAIAAAAAAEBJQAAAAAAAGHlAAkMBAAQEDgrDhnZhcoCgq/75YgAAAAAA"
    + "ABFAAgAAAAAAQElAAAAAAAAYeUACQwEABgQOAAECAwQFBgcICQoLDA0ODwJYCsOGdmFygKCr/vliAAAAAAAAEUACAAAAAABASUAAAAAAABh5QAJDAQAIBA4A"
    + "AQIDBAUGBwgJCgsMDQ4P"
private let deflatedFile =
    "T2JqAQQUYXZyby5jb2RlYw5kZWZsYXRlFmF2cm8uc2NoZW1h4gd7InR5cGUiOiAicmVjb3JkIiwgIm5hbWUiOiAiUmVhZGluZyIsICJmaWVsZHMiOiBbeyJu"
    + "YW1lIjogImNvbnRhaW5lcklEIiwgInR5cGUiOiAic3RyaW5nIn0sIHsibmFtZSI6ICJ0aW1lc3RhbXAiLCAidHlwZSI6ICJsb25nIn0sIHsibmFtZSI6ICJ0"
    + "ZW1wZXJhdHVyZSIsICJ0eXBlIjogImRvdWJsZSJ9LCB7Im5hbWUiOiAiaHVtaWRpdHkiLCAidHlwZSI6IFsibnVsbCIsICJkb3VibGUiXX0sIHsibmFtZSI6"
    + "ICJjbzJfcHBtIiwgInR5cGUiOiAiZG91YmxlIn0sIHsibmFtZSI6ICJ1bml0IiwgInR5cGUiOiAic3RyaW5nIn0sIHsibmFtZSI6ICJvayIsICJ0eXBlIjog"
    + "ImJvb2xlYW4ifSwgeyJuYW1lIjogInRhZ3MiLCAidHlwZSI6IHsidHlwZSI6ICJhcnJheSIsICJpdGVtcyI6ICJzdHJpbmcifX0sIHsibmFtZSI6ICJhIiwg"
    + "InR5cGUiOiAibG9uZyJ9LCB7Im5hbWUiOiAiYiIsICJ0eXBlIjogImludCJ9LCB7Im5hbWUiOiAib2JzZXJ2ZWQiLCAidHlwZSI6ICJsb25nIn1dfQAAAQID"
    + "BAUGBwgJCgsMDQ4PBFrjOtxWlljUsGD1v59JDGAg6MAEph08HcC0RKUDkzMjAwMLHxexaplY+ADHOxIAAQIDBAUGBwgJCgsMDQ4PBFrjOtxWlljUsGD1v59J"
    + "DGAg6MAEph08HcC0RKUDkzMjAwsLHxexatlY+ADIAxIAAQIDBAUGBwgJCgsMDQ4PAk7jOtxWlljUsGD1v59JDGAg6MAEph08HcC0RKUDkzMjAwcLHwAdPQkA"
    + "AQIDBAUGBwgJCgsMDQ4P"

private let marker = (0..<16).map { UInt8($0) }

private func file(_ text: String) -> [UInt8] { Data(base64Encoded: text).map { [UInt8]($0) } ?? [] }

private func rows(_ file: [UInt8]) throws -> (header: AvroContainerHeader, rows: [Reading], blocks: Int) {
    try file.withUnsafeBytes { bytes in
        guard let header = try AvroContainerHeader.parse(bytes) else {
            throw FormatFailure("Avro", .truncated, "the file ends inside its header", offset: 0)
        }
        let reader = try AvroContainerRows(Reading.self, of: header)
        var position = header.byteCount
        var rows: [Reading] = []
        var blocks = 0
        while position < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[position...])
            guard let block = try AvroContainerBlock.parse(rest, of: header) else {
                throw FormatFailure("Avro", .truncated, "the file ends inside a block", offset: position)
            }
            try reader.read(UnsafeRawBufferPointer(rebasing: rest[block.payload]), rows: block.rows) { rows.append($0) }
            position += block.byteCount
            blocks += 1
        }
        return (header, rows, blocks)
    }
}

private func reading(_ index: Int) -> Reading {
    Reading(
        containerID: "Ævar", timestamp: 1_700_000_000_000, temperature: 4.25, humidity: 50.5, co2: 401.5, tags: [], a: Int32(index), b: 2)
}

@Suite struct AvroContainerTests {
    @Test(arguments: [(plainFile, AvroCodec.null), (deflatedFile, .deflate)]) func readsTheFilesOfOthers(text: String, codec: AvroCodec) throws {
        let (header, rows, blocks) = try rows(file(text))
        #expect(header.codec == codec)
        #expect(header.syncMarker == marker)
        #expect(rows == (0..<5).map { reading($0) })
        #expect(blocks == 3)
    }

    @Test(arguments: AvroCodec.allCases) func writesFilesThatReadBack(codec: AvroCodec) throws {
        let header = AvroContainerHeader(schema: try AvroSchema(of: Reading.self), codec: codec, syncMarker: marker)
        var writer = try AvroContainerWriter(Reading.self, header: header)
        var file = ByteWriter()
        header.encode(into: &file)
        #expect(file.count == header.byteCount)
        writer.flush(into: &file)
        #expect(file.count == header.byteCount, "no rows are no block")
        for index in 0..<1_000 {
            try writer.append(reading(index))
            if writer.pendingBytes >= 4_096 { writer.flush(into: &file) }
        }
        writer.flush(into: &file)
        let read = try rows(file.finish())
        #expect(read.rows == (0..<1_000).map { reading($0) })
        #expect(read.blocks > 10)
    }

    @Test func aRowThatDoesNotFitLeavesTheBlockAsItWas() throws {
        let schema = try AvroSchema(parsing: #"{"type":"record","name":"Visible","fields":[{"name":"x","type":"int"}]}"#)
        let header = AvroContainerHeader(schema: schema, codec: .null, syncMarker: marker)
        var writer = try AvroContainerWriter(Visible.self, header: header)
        try writer.append(Visible(x: 1))
        #expect(throws: FormatFailure.self) { try writer.append(Visible(x: .max)) }
        var block = ByteWriter()
        writer.flush(into: &block)
        #expect(block.finish() == [2, 2, 2] + marker)
    }

    @Test func aPartOfAFileAsksForMore() throws {
        let whole = file(plainFile)
        try whole.withUnsafeBytes { bytes in
            let header = try #require(try AvroContainerHeader.parse(bytes))
            for count in 0..<header.byteCount {
                #expect(try AvroContainerHeader.parse(UnsafeRawBufferPointer(rebasing: bytes[..<count])) == nil)
            }
            let first = UnsafeRawBufferPointer(rebasing: bytes[header.byteCount...])
            let block = try #require(try AvroContainerBlock.parse(first, of: header))
            for count in 0..<block.byteCount {
                #expect(try AvroContainerBlock.parse(UnsafeRawBufferPointer(rebasing: first[..<count]), of: header) == nil)
            }
            // From anywhere, the next block is found.
            let start = try #require(AvroContainerBlock.start(in: UnsafeRawBufferPointer(rebasing: first[1...]), of: header))
            #expect(start + 1 == block.byteCount)
            #expect(AvroContainerBlock.start(in: UnsafeRawBufferPointer(rebasing: first[..<15]), of: header) == nil)
        }
    }

    @Test func whatIsNoContainerFileIsRefused() throws {
        func problem(_ bytes: [UInt8]) -> String? {
            do {
                _ = try bytes.withUnsafeBytes { try AvroContainerHeader.parse($0) }
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(problem(Array("PAR1".utf8)) == "Avro, byte 0: no container file: it does not begin with \"Obj\" and 1")
        func head(_ entries: [(String, String)]) -> [UInt8] {
            [0x4F, 0x62, 0x6A, 1]
                + AvroBytes.make { avro in
                    if !entries.isEmpty { avro.long(Int64(entries.count)) }
                    for (key, value) in entries {
                        avro.string(key)
                        avro.string(value)
                    }
                    avro.long(0)
                } + marker
        }
        #expect(problem(head([]))?.hasSuffix("a container file without \"avro.schema\"") == true)
        #expect(
            problem(head([("avro.schema", "\"int\""), ("avro.codec", "snappy")]))?.hasSuffix(
                "a container file of the codec \"snappy\": null, deflate can be read") == true)
        #expect(problem(head([("avro.schema", "\"it\"")])) == "Avro schema: the type \"it\" is not defined, or only further down")
        #expect(problem(head([("avro.schema", "\"int\"")])) == nil)
        let many = (0...AvroContainerHeader.entriesMax).map { ("k\($0)", "") }
        #expect(problem(head(many))?.hasSuffix("more than 1000 entries of metadata") == true)
        let endless = [0x4F, 0x62, 0x6A, 1] + AvroBytes.make { $0.long(.min) } + AvroBytes.make { $0.long(0) }
        #expect(problem(endless)?.hasSuffix("more than 1000 entries of metadata") == true)
    }

    @Test func aBlockThatBecomesTooLargeIsRefused() throws {
        func inflated(_ bytes: [UInt8], limit: Int = 1 << 20) throws -> Int {
            try bytes.withUnsafeBytes { try AvroCodec.deflate.decompress($0, limit: limit).count }
        }
        let zeros = [UInt8](repeating: 0, count: 1 << 20)
        let small = zeros.withUnsafeBytes { AvroCodec.deflate.compress($0) }
        #expect(small.count < 2_000)
        #expect(try inflated(small) == 1 << 20)
        #expect(throws: FormatFailure.self) { try inflated(small, limit: 1 << 20 - 1) }
        #expect(throws: FormatFailure.self) { try inflated(small.dropLast()) }
        #expect(throws: FormatFailure.self) { try inflated(small + [0, 0, 0, 0, 0]) }
        let nothing = AvroCodec.deflate.compress(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(try inflated(nothing) == 0)
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func damagedFilesNeverTrap(seed: UInt64) throws {
        var random = Random(seed: seed)
        var refused = 0
        for text in [plainFile, deflatedFile] {
            for _ in 0..<40 {
                var bytes = file(text)
                for _ in 0..<(1 + random.below(3)) {
                    let place = random.below(bytes.count)
                    switch random.below(3) {
                    case 0: bytes[place] = UInt8(random.below(256))
                    case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(8)))
                    default: bytes.insert(contentsOf: [UInt8](repeating: 0xFF, count: 1 + random.below(10)), at: place)
                    }
                }
                if (try? rows(bytes)) == nil { refused += 1 }
            }
        }
        #expect(refused > 20)
    }
}
