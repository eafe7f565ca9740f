// Decompression by the system's zlib, liblz4 and libzstd, each loaded when it is first needed: a process that opens nothing compressed
// does not pay for them.
#ifndef WEIR_CODEC_H
#define WEIR_CODEC_H

#include <stddef.h>

enum weir_codec {
    weir_codec_gzip = 1,  // RFC 1952, or zlib's own header.
    weir_codec_lz4 = 3,   // The LZ4 frame format.
    weir_codec_zstd = 4,  // RFC 8878.
};

enum weir_codec_result {
    weir_codec_ok = 0,
    weir_codec_missing,    // The library is not installed.
    weir_codec_damaged,    // Or cut short.
    weir_codec_too_large,  // More than `out_max` bytes came out.
    weir_codec_no_memory,
};

// Decompresses a whole buffer. On weir_codec_ok `*out` is memory for free(), and `*out_bytes` of it hold the result; else both are zero.
enum weir_codec_result weir_decompress(
    enum weir_codec codec, const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes);

#endif
