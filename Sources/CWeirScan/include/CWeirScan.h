// Classifies the bytes of text 64 at a time: Swift has no way from a comparison of vectors to the bits of an integer.
#ifndef CWEIRSCAN_H
#define CWEIRSCAN_H

#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

// One bit a byte, the lowest the first.
struct weir_text_masks {
    uint64_t quotes;  // "
    uint64_t stops;   // Backslash, control characters, bytes beyond ASCII.
    uint64_t digits;  // 0-9
};

// Reads 64 bytes from `text` on, byte by byte: for processors without the instructions below, and for the tests.
static inline struct weir_text_masks weir_text_scan_portable(const void *text) {
    const uint8_t *bytes = (const uint8_t *)text;
    struct weir_text_masks masks = {0, 0, 0};
    for (int i = 0; i < 64; i++) {
        const uint8_t byte = bytes[i];
        masks.quotes |= (uint64_t)(byte == '"') << i;
        masks.stops |= (uint64_t)(byte == '\\' || byte < 0x20 || byte >= 0x80) << i;
        masks.digits |= (uint64_t)(byte >= '0' && byte <= '9') << i;
    }
    return masks;
}

// Reads 64 bytes from `text` on, which may lie at any address.
static inline struct weir_text_masks weir_text_scan(const void *text) {
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), escape = _mm_set1_epi8('\\'), space = _mm_set1_epi8(0x20);
    // Moved so that the ten digits are the least signed values.
    const __m128i zero = _mm_set1_epi8((char)(0x30 + 0x80)), ten = _mm_set1_epi8((char)(10 - 0x80));
    struct weir_text_masks masks = {0, 0, 0};
    __m128i stops[4];
    for (int part = 0; part < 4; part++) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)text + part);
        // As signed values, bytes beyond ASCII are less than a space, too.
        stops[part] = _mm_or_si128(_mm_cmpeq_epi8(bytes, escape), _mm_cmplt_epi8(bytes, space));
        const __m128i digit = _mm_cmplt_epi8(_mm_sub_epi8(bytes, zero), ten);
        masks.quotes |= (uint64_t)(uint16_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, quote)) << (16 * part);
        masks.digits |= (uint64_t)(uint16_t)_mm_movemask_epi8(digit) << (16 * part);
    }
    // Most text has none.
    if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(stops[0], stops[1]), _mm_or_si128(stops[2], stops[3]))) != 0) {
        for (int part = 0; part < 4; part++) masks.stops |= (uint64_t)(uint16_t)_mm_movemask_epi8(stops[part]) << (16 * part);
    }
    return masks;
#else
    return weir_text_scan_portable(text);
#endif
}

#endif
