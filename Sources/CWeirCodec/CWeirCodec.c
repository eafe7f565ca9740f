#include "CWeirCodec.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

// What decompressors have in common: bytes in, bytes out, and whether the end was seen.
struct flow {
    const unsigned char *in;
    size_t in_left;
    unsigned char *out;
    size_t out_left;
    bool ended;
};

struct decoder {
    // Returns false for damaged bytes. Consumes and produces what it can.
    bool (*step)(void *state, struct flow *flow);
    void *state;
};

enum { first_room = 64 << 10 };

// Runs a decoder with room that doubles up to `out_max`.
static enum weir_codec_result run(
    struct decoder decoder, const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes) {
    size_t room = first_room < out_max ? first_room : out_max;
    unsigned char *memory = malloc(room ? room : 1);
    struct flow flow = {in, in_bytes, memory, room, false};
    enum weir_codec_result result = memory ? weir_codec_ok : weir_codec_no_memory;
    while (result == weir_codec_ok && !flow.ended) {
        if (flow.out_left == 0) {
            if (room == out_max) {
                // The end may be all that is missing: one more step with a byte to spare tells.
                unsigned char spare;
                flow.out = &spare;
                flow.out_left = 1;
                if (!decoder.step(decoder.state, &flow)) result = weir_codec_damaged;
                else if (!flow.ended || flow.out_left == 0) result = weir_codec_too_large;
                flow.out_left = 0;
                break;
            }
            size_t larger = room > out_max / 2 ? out_max : room * 2;
            unsigned char *moved = realloc(memory, larger);
            if (!moved) {
                result = weir_codec_no_memory;
                break;
            }
            memory = moved;
            flow.out = memory + room;
            flow.out_left = larger - room;
            room = larger;
        }
        size_t in_before = flow.in_left, out_before = flow.out_left;
        if (!decoder.step(decoder.state, &flow)) result = weir_codec_damaged;
        // Neither took nor gave anything, and there was room: the bytes end too early.
        else if (!flow.ended && in_before == flow.in_left && out_before == flow.out_left) result = weir_codec_damaged;
    }
    if (result != weir_codec_ok) {
        free(memory);
        return result;
    }
    *out = memory;
    *out_bytes = room - flow.out_left;
    return weir_codec_ok;
}

// zlib

struct gzip {
    int (*inflate)(z_streamp, int);
    z_stream stream;
};

static bool gzip_step(void *state, struct flow *flow) {
    struct gzip *gzip = state;
    z_stream *stream = &gzip->stream;
    stream->next_in = (Bytef *)flow->in;
    stream->avail_in = (uInt)flow->in_left;
    stream->next_out = flow->out;
    stream->avail_out = (uInt)flow->out_left;
    int code = gzip->inflate(stream, Z_NO_FLUSH);
    flow->in = stream->next_in;
    flow->in_left = stream->avail_in;
    flow->out = stream->next_out;
    flow->out_left = stream->avail_out;
    flow->ended = code == Z_STREAM_END;
    return code == Z_OK || code == Z_STREAM_END || code == Z_BUF_ERROR;
}

static enum weir_codec_result gunzip(const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes) {
    void *library = dlopen("libz.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return weir_codec_missing;
    int (*init)(z_streamp, int, const char *, int) = (int (*)(z_streamp, int, const char *, int))dlsym(library, "inflateInit2_");
    int (*end)(z_streamp) = (int (*)(z_streamp))dlsym(library, "inflateEnd");
    struct gzip gzip;
    memset(&gzip, 0, sizeof gzip);
    gzip.inflate = (int (*)(z_streamp, int))dlsym(library, "inflate");
    if (!init || !end || !gzip.inflate) return weir_codec_missing;
    // 15 bits of window, and 32 to tell gzip's header from zlib's.
    if (init(&gzip.stream, 15 + 32, ZLIB_VERSION, (int)sizeof gzip.stream) != Z_OK) return weir_codec_no_memory;
    enum weir_codec_result result = run((struct decoder){gzip_step, &gzip}, in, in_bytes, out_max, out, out_bytes);
    end(&gzip.stream);
    return result;
}

// liblz4: lz4frame.h, stable since 1.7. Declared here, so that its headers need not be there.

struct lz4 {
    size_t (*decompress)(void *, void *, size_t *, const void *, size_t *, const void *);
    unsigned (*is_error)(size_t);
    void *context;
};

static bool lz4_step(void *state, struct flow *flow) {
    struct lz4 *lz4 = state;
    size_t in = flow->in_left, out = flow->out_left;
    size_t hint = lz4->decompress(lz4->context, flow->out, &out, flow->in, &in, NULL);
    if (lz4->is_error(hint)) return false;
    flow->in += in;
    flow->in_left -= in;
    flow->out += out;
    flow->out_left -= out;
    flow->ended = hint == 0;
    return true;
}

static enum weir_codec_result unlz4(const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes) {
    void *library = dlopen("liblz4.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return weir_codec_missing;
    size_t (*create)(void **, unsigned) = (size_t (*)(void **, unsigned))dlsym(library, "LZ4F_createDecompressionContext");
    size_t (*destroy)(void *) = (size_t (*)(void *))dlsym(library, "LZ4F_freeDecompressionContext");
    struct lz4 lz4 = {NULL, NULL, NULL};
    lz4.decompress = (size_t (*)(void *, void *, size_t *, const void *, size_t *, const void *))dlsym(library, "LZ4F_decompress");
    lz4.is_error = (unsigned (*)(size_t))dlsym(library, "LZ4F_isError");
    if (!create || !destroy || !lz4.decompress || !lz4.is_error) return weir_codec_missing;
    if (lz4.is_error(create(&lz4.context, 100 /* LZ4F_VERSION */))) return weir_codec_no_memory;
    enum weir_codec_result result = run((struct decoder){lz4_step, &lz4}, in, in_bytes, out_max, out, out_bytes);
    destroy(lz4.context);
    return result;
}

// libzstd: zstd.h, stable since 1.0.

struct zstd_out {
    void *bytes;
    size_t size, position;
};
struct zstd_in {
    const void *bytes;
    size_t size, position;
};

struct zstd {
    size_t (*decompress)(void *, struct zstd_out *, struct zstd_in *);
    unsigned (*is_error)(size_t);
    void *stream;
};

static bool zstd_step(void *state, struct flow *flow) {
    struct zstd *zstd = state;
    struct zstd_out out = {flow->out, flow->out_left, 0};
    struct zstd_in in = {flow->in, flow->in_left, 0};
    size_t hint = zstd->decompress(zstd->stream, &out, &in);
    if (zstd->is_error(hint)) return false;
    flow->in += in.position;
    flow->in_left -= in.position;
    flow->out += out.position;
    flow->out_left -= out.position;
    // Whole frames may follow each other.
    flow->ended = hint == 0 && flow->in_left == 0;
    return true;
}

static enum weir_codec_result unzstd(const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes) {
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return weir_codec_missing;
    void *(*create)(void) = (void *(*)(void))dlsym(library, "ZSTD_createDStream");
    size_t (*destroy)(void *) = (size_t (*)(void *))dlsym(library, "ZSTD_freeDStream");
    struct zstd zstd = {NULL, NULL, NULL};
    zstd.decompress = (size_t (*)(void *, struct zstd_out *, struct zstd_in *))dlsym(library, "ZSTD_decompressStream");
    zstd.is_error = (unsigned (*)(size_t))dlsym(library, "ZSTD_isError");
    if (!create || !destroy || !zstd.decompress || !zstd.is_error) return weir_codec_missing;
    zstd.stream = create();
    if (!zstd.stream) return weir_codec_no_memory;
    enum weir_codec_result result = run((struct decoder){zstd_step, &zstd}, in, in_bytes, out_max, out, out_bytes);
    destroy(zstd.stream);
    return result;
}

enum weir_codec_result weir_decompress(
    enum weir_codec codec, const void *in, size_t in_bytes, size_t out_max, void **out, size_t *out_bytes) {
    *out = NULL;
    *out_bytes = 0;
    // zlib counts in 32 bits.
    if (in_bytes > (1u << 30) || out_max > (1u << 30)) return weir_codec_too_large;
    switch (codec) {
    case weir_codec_gzip: return gunzip(in, in_bytes, out_max, out, out_bytes);
    case weir_codec_lz4: return unlz4(in, in_bytes, out_max, out, out_bytes);
    case weir_codec_zstd: return unzstd(in, in_bytes, out_max, out, out_bytes);
    }
    return weir_codec_damaged;
}
