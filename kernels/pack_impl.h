/* pack_impl.h: the codes of quantised weights, and float weights, of 16 rows as a panel has them
 * (pack.c draws it), written over PACK_ROWS rows side by side, a row each lane: pack.c compiles it
 * with four, isa_avx2.c with eight. Whoever includes it defines row_words, a vector of that many
 * words of 32 bits, load_rows, and PACK_CODES, the function's name. */
#include "template.h"

enum { PLANE = 4 * GQA_PANEL };

/* Word g of a row becomes that row's of plane g; the rows of a file lie row_bytes apart. */
TEMPLATE void pack_words(int words, const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    for (int r = 0; r < GQA_PANEL; r += PACK_ROWS, raw += PACK_ROWS * row_bytes)
        for (int g = 0; g < words; g += 4) {
            row_words w[4];
            load_rows(w, raw + 4 * g, row_bytes);
            UNROLL for (int i = 0; i < 4; i++)
                memcpy(packed + (g + i) * PLANE + 4 * r, w + i, sizeof *w);
        }
}

/* ---- blocks of 32 columns ------------------------------------------------------------------- */

/* The 32 fifth bits of q5_0 and q5_1, bit i for value i, as a plane: bit g is group g's. So bit
 * 4 * g + i of a word moves to bit g of byte i: a bit's number has five digits, and each step
 * exchanges two of them. */
static void pack_fifth_bits(const uint8_t *raw, size_t row_bytes, uint8_t *plane) {
    static const struct { int shift; uint32_t mask; } steps[4] = {
        {14, 0x0000CCCC}, {7, 0x00AA00AA}, {2, 0x0C0C0C0C}, {1, 0x22222222},
    };
    for (int row = 0; row < GQA_PANEL; row += PACK_ROWS, raw += PACK_ROWS * row_bytes) {
        row_words w[4];
        load_rows(w, raw, row_bytes); /* the first word of each */
        row_words x = w[0];
        for (int i = 0; i < 4; i++) {
            row_words t = (x >> steps[i].shift ^ x) & steps[i].mask;
            x ^= t ^ t << steps[i].shift;
        }
        memcpy(plane + 4 * row, &x, sizeof x);
    }
}

/* ---- superblocks of 256 columns ------------------------------------------------------------- */

/* Where a superblock keeps d, dmin, and its values' nibbles, pairs of bits and single bits. */
typedef struct super_fields {
    int16_t d, dmin, nibbles, pairs, bit; /* -1: none */
} super_fields;

static const super_fields *fields_of(int type) {
    static const super_fields fields[] = {
        {80, 82, -1, 16, -1},  /* q2_k */
        {108, -1, -1, 32, 0},  /* q3_k */
        {0, 2, 16, -1, -1},    /* q4_k */
        {0, 2, 48, -1, 16},    /* q5_k */
        {208, -1, 0, 128, -1}, /* q6_k */
        {0, -1, -1, -1, -1},   /* iq4_xs: as eight blocks of iq4_nl */
    };
    return fields + min_int(type - GQA_TYPE_Q2_K, 5);
}

/* Exchanges the bits of a that `mask` << n selects with those of b that `mask` does. */
static inline void swap_bits(row_words *a, row_words *b, int n, uint32_t mask) {
    row_words t = (*a >> n ^ *b) & mask;
    *a ^= t << n;
    *b ^= t;
}

/* 32 bytes of each of PACK_ROWS rows: a byte is a value of each of 8 / bits sub-blocks, `bits` bits
 * of it. In a packed block a byte is a value of each of 8 / bits groups of one sub-block: so words
 * [group][sub-block] are transposed, by exchanging bits of ever larger squares. Sub-block f's
 * planes are at `to` + f * step. */
TEMPLATE void pack_fields(int bits, const uint8_t *raw, size_t row_bytes, uint8_t *to,
                          size_t step) {
    const int fields = 8 / bits;
    row_words w[8];
    load_rows(w, raw, row_bytes);
    load_rows(w + 4, raw + 16, row_bytes);
    UNROLL for (int plane = 0; plane < bits; plane++, to += PLANE) {
        row_words q[8];
        UNROLL for (int f = 0; f < fields; f++)
            q[f] = bits == 4 ? w[plane + 4 * f] : w[fields * plane + f];
        UNROLL for (int d = 1, n = bits; n < 8; d *= 2, n *= 2)
            UNROLL for (int f = 0; f < fields; f++)
                if (!(f & d))
                    swap_bits(q + f, q + f + d, n, n == 4 ? 0x0F0F0F0F :
                                                   n == 2 ? 0x33333333 : 0x55555555);
        UNROLL for (int f = 0; f < fields; f++) memcpy(to + f * step, q + f, sizeof *q);
    }
}

/* The codes of PACK_ROWS rows of superblocks, the first at b, in eight packed blocks. */
static void pack_superblocks(int type, const uint8_t *b, size_t row_bytes, uint8_t *packed) {
    const super_fields at = *fields_of(type);
    const size_t block = gqa_packed_block_bytes(type);
    if (at.nibbles >= 0) {
        const int six = type == GQA_TYPE_Q6_K; /* its bytes' nibbles are 64 columns apart */
        for (int i = 0; i < 4; i++)
            pack_fields(4, b + at.nibbles + 32 * i, row_bytes,
                        packed + (six ? i + i / 2 * 2 : 2 * i) * block, (1 + six) * block);
        packed += 4 * PLANE;
    }
    if (at.pairs >= 0) {
        for (int i = 0; i < 2; i++)
            pack_fields(2, b + at.pairs + 32 * i, row_bytes, packed + 4 * i * block, block);
        packed += 2 * PLANE;
    }
    if (at.bit >= 0) pack_fields(1, b + at.bit, row_bytes, packed, block);
}

/* gqa_pack_codes (kernels.h). Types of four bits keep values i and i + 16 of a block in one byte:
 * just as a packed block does. */
void PACK_CODES(int type, const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    const int is_xs = type == GQA_TYPE_IQ4_XS;
    const int is_float = type == GQA_TYPE_F32 || type == GQA_TYPE_F16 || type == GQA_TYPE_BF16;
    const int has_min = type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1;
    if (is_k_quant(type) && !is_xs) {
        for (int r = 0; r < GQA_PANEL; r += PACK_ROWS, raw += PACK_ROWS * row_bytes)
            pack_superblocks(type, raw, row_bytes, packed + 4 * r);
        return;
    }
    raw += is_float ? 0 : is_xs ? 8 : has_min ? 4 : 2;
    if (type == GQA_TYPE_Q5_0 || type == GQA_TYPE_Q5_1) {
        pack_fifth_bits(raw, row_bytes, packed + 4 * PLANE);
        raw += 4;
    }
    if (is_float) {
        pack_words(16, raw, row_bytes, packed);
    } else if (type == GQA_TYPE_Q8_0) {
        pack_words(8, raw, row_bytes, packed);
    } else {
        for (int s = 0; s < (is_xs ? 8 : 1); s++, raw += 16, packed += 4 * PLANE + 16)
            pack_words(4, raw, row_bytes, packed);
    }
}
