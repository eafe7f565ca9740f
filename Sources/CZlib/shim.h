// What Swift cannot reach of zlib by itself: the initialisers are macros. Raw deflate (RFC 1951), a whole buffer at a time.
#ifndef WEIR_CZLIB_SHIM_H
#define WEIR_CZLIB_SHIM_H

#include <stddef.h>
#include <string.h>
#include <zlib.h>

// A negative number of window bits: without zlib's header and checksum.
static const int weir_zlib_raw = -15;

// Returns Z_STREAM_END when all of `in` became `*produced` bytes, Z_BUF_ERROR when `out` is too small, Z_DATA_ERROR when `in` is damaged,
// ends too early or goes on behind its end. Up to four bytes may do so: some writers leave a part of zlib's checksum. Sizes must be below 4 GiB.
static inline int weir_inflate(const void *in, size_t in_bytes, void *out, size_t out_bytes, size_t *produced) {
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    stream.next_in = (Bytef *)in;
    stream.avail_in = (uInt)in_bytes;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)out_bytes;
    int code = inflateInit2(&stream, weir_zlib_raw);
    if (code != Z_OK) return code;
    code = inflate(&stream, Z_FINISH);
    *produced = stream.total_out;
    if (code == Z_STREAM_END && stream.avail_in > 4) code = Z_DATA_ERROR;
    // Nothing left to read, and room left: the end is missing.
    if ((code == Z_BUF_ERROR || code == Z_OK) && stream.avail_out != 0) code = Z_DATA_ERROR;
    if (code == Z_OK) code = Z_BUF_ERROR;
    inflateEnd(&stream);
    return code;
}

// Room enough for `in_bytes` deflated.
static inline size_t weir_deflate_bound(size_t in_bytes) { return deflateBound(NULL, (uLong)in_bytes); }

// Returns Z_STREAM_END, or why nothing was made. `out` must have weir_deflate_bound bytes.
static inline int weir_deflate(const void *in, size_t in_bytes, void *out, size_t out_bytes, int level, size_t *produced) {
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    stream.next_in = (Bytef *)in;
    stream.avail_in = (uInt)in_bytes;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)out_bytes;
    int code = deflateInit2(&stream, level, Z_DEFLATED, weir_zlib_raw, 8, Z_DEFAULT_STRATEGY);
    if (code != Z_OK) return code;
    code = deflate(&stream, Z_FINISH);
    *produced = stream.total_out;
    deflateEnd(&stream);
    return code;
}

#endif
