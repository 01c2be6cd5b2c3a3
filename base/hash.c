/* hash.c: a hash at the speed of memory. */
#include "hash.h"

uint64_t gqa_hash_lanes(uint64_t h, const void *data, size_t size) {
    const uint8_t *p = data;
    uint64_t lane[4] = {h, h + 1, h + 2, h + 3}, length = size;
    for (; size >= sizeof lane; p += sizeof lane, size -= sizeof lane)
        for (int i = 0; i < 4; i++) lane[i] = gqa_hash(lane[i], p + 8 * i, 8);
    h = gqa_hash(gqa_hash(h, lane, sizeof lane), &length, sizeof length);
    return gqa_hash(h, p, size);
}
