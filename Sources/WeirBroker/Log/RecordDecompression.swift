internal import CWeirCodec
internal import Glibc
internal import WeirBase
internal import WeirKafkaWire

/// Opens what clients compressed: only to find a record by its time. What consumers fetch stays as it came.
enum RecordDecompression {
    /// A batch that would become more is not opened: a few kilobytes can stand for gigabytes.
    static let bytesMax = 64 << 20

    /// The records of a compressed batch as they would be in an uncompressed one.
    ///
    /// - Returns: nil where they cannot be had: damaged by the client that compressed them, more than ``bytesMax``, or the system lacks the library.
    static func records(of header: RecordBatchHeader, in batch: KafkaBytes, bytesMax: Int = bytesMax) -> KafkaBytes? {
        let records = batch.slice(from: RecordBatchHeader.bytes, count: header.totalBytes - RecordBatchHeader.bytes)
        switch header.codec {
        case 1: return library(weir_codec_gzip, records, bytesMax)
        case 2:
            return (try? records.withUnsafeBytes { (bytes) throws(DecodingFailure) in try Snappy.decompress(bytes, bytesMax: bytesMax) }).map {
                KafkaBytes($0)
            }
        case 3: return library(weir_codec_lz4, records, bytesMax)
        case 4: return library(weir_codec_zstd, records, bytesMax)
        default: return nil
        }
    }

    private static func library(_ codec: weir_codec, _ records: KafkaBytes, _ bytesMax: Int) -> KafkaBytes? {
        var out: UnsafeMutableRawPointer?
        var count = 0
        let result = records.withUnsafeBytes { weir_decompress(codec, $0.baseAddress, $0.count, bytesMax, &out, &count) }
        guard result == weir_codec_ok, let out else { return nil }
        return KafkaBytes(owning: out, count: count) { free($0) }
    }
}
