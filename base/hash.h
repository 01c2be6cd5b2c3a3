/* hash.h: a 64-bit hash, for checksums and for telling contents apart; not cryptographic. */
#ifndef GQA_HASH_H
#define GQA_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* hash.c: the same in four independent lanes, for gigabytes: another value than gqa_hash gives. */
uint64_t gqa_hash_lanes(uint64_t h, const void *data, size_t size);

/* FNV-1a over 64-bit words, then over the bytes that are left. */
static inline uint64_t gqa_hash(uint64_t h, const void *data, size_t size) {
    const uint8_t *p = data;
    for (; size >= 8; p += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x100000001B3u;
        h ^= h >> 29;
    }
    for (; size; p++, size--) h = (h ^ *p) * 0x100000001B3u;
    return h;
}

#endif
