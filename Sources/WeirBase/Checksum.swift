internal import CWeirHash

/// CRC-32C (Castagnoli) of the bytes; pass the result of one call as the seed of the next to go on.
package func crc32c(_ bytes: UnsafeRawBufferPointer, seed: UInt32 = 0) -> UInt32 {
    weir_crc32c(seed, bytes.baseAddress, bytes.count)
}
