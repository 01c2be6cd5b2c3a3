/* saved.h: the bytes of a saved session, for tests that change them. session_file.c draws the
 * file; after the header come tokens, logits and the cache, and a checksum in the last 8 bytes. */
#ifndef GQA_TEST_SAVED_H
#define GQA_TEST_SAVED_H

#include <string.h>

#include "../base/hash.h"

enum { HEADER = 80 };

/* Where the words of the header are. */
enum {
    AT_TYPE = 16, AT_RING = 20, AT_POSITION = 24, AT_LOGITS = 28, AT_TILES = 32, AT_AHEAD = 36,
    AT_FILE = 40
};

static inline uint32_t word_of(const uint8_t *file, size_t at) {
    uint32_t v;
    memcpy(&v, file + at, 4);
    return v;
}
static inline void set_word(uint8_t *file, size_t at, uint32_t v) { memcpy(file + at, &v, 4); }

/* Writes the checksum that the bytes call for: over header, tokens, logits [vocab], and the
 * rest. */
static inline void sign(uint8_t *file, size_t size, size_t vocab) {
    size_t at = 0, end = size - 8;
    size_t tokens = word_of(file, AT_POSITION) * (size_t)4;
    size_t logits = word_of(file, AT_LOGITS) ? vocab * sizeof(float) : 0;
    size_t parts[4] = {HEADER, tokens, logits, end};
    uint64_t sum = 0;
    for (int i = 0; i < 4; i++) {
        size_t part = parts[i] < end - at ? parts[i] : end - at;
        sum = gqa_hash(sum, file + at, part);
        at += part;
    }
    memcpy(file + end, &sum, 8);
}

#endif
