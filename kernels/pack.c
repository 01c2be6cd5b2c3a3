/* pack.c: weights in panels of 16 rows, so that a vector holds one column of 16 rows (or four
 * columns in bytes) and a product needs no horizontal sums. Nothing is rounded: unpacking
 * (tests/unpack.c) gives back the file's bytes.
 *
 * f32, f16, bf16: [cols][16], the row fastest.
 *
 * Quantised types: a packed block for 32 columns. Columns come in eight groups g of four; a "plane"
 * is 64 bytes, four for each of 16 rows: byte 4 * row + i belongs to column 4 * g + i.
 *
 *         planes                                                   scales                    bytes
 *   q8_0    0..7: q (signed) of group g                          f16 d[16]                 544
 *   q4_0    0..3: q of group g in the low nibble, g + 4 in the   f16 d[16]                 288
 *           high
 *   q5_0    as q4_0; 4: bit g is the fifth bit of group g's q    f16 d[16]                 352
 *   q4_1    as q4_0                                              f16 d[16], f16 m[16]      320
 *   q5_1    as q5_0                                              f16 d[16], f16 m[16]      384
 *   iq4_nl  as q4_0                                              f16 d[16]                 288
 *   q2_k    0, 1: bits 2g.. are q of groups 0..3, 4..7           u8 scale | min<<4 [2][16] 160
 *   q3_k    as q2_k; 2: bit g is the third bit                   i8 scale[2][16]           224
 *   q4_k    as q4_0                                              u8 scale[16], u8 min[16]  288
 *   q5_k    as q5_0                                              u8 scale[16], u8 min[16]  352
 *   q6_k    as q4_0; 4, 5 as q2_k: the upper bits                i8 scale[2][16]           416
 *   iq4_xs  as q4_0                                              i8 scale[16]              272
 *
 * Superblocks: after eight packed blocks, f16 d[16] and f16 dmin[16] (or zero), 64 bytes. */
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

enum { PLANE = 4 * GQA_PANEL };

size_t gqa_packed_block_bytes(int type) {
    switch (type) {
    case GQA_TYPE_Q2_K: return 2 * PLANE + 32;
    case GQA_TYPE_Q3_K: return 3 * PLANE + 32;
    case GQA_TYPE_IQ4_XS: return 4 * PLANE + 16;
    case GQA_TYPE_Q4_0: case GQA_TYPE_Q4_K: case GQA_TYPE_IQ4_NL: return 4 * PLANE + 32;
    case GQA_TYPE_Q4_1: return 4 * PLANE + 64;
    case GQA_TYPE_Q5_0: case GQA_TYPE_Q5_K: return 5 * PLANE + 32;
    case GQA_TYPE_Q5_1: return 5 * PLANE + 64;
    case GQA_TYPE_Q6_K: return 6 * PLANE + 32;
    case GQA_TYPE_Q8_0: return 8 * PLANE + 32;
    default: return 0;
    }
}

size_t gqa_panel_bytes(int type, int cols) {
    size_t n = cols, packed = gqa_packed_block_bytes(type), bytes = n / 32 * packed;
    if (!packed) bytes = n * GQA_PANEL * (type == GQA_TYPE_F32 ? 4 : 2);
    else if (is_k_quant(type)) bytes = n / 256 * (8 * packed + 64);
    return round_up(bytes, 64);
}

int gqa_type_wants_q8(int type) { return gqa_packed_block_bytes(type) != 0; }

/* ---- words: four columns at once ------------------------------------------------------------ */

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

/* Word g of a row becomes that row's of plane g; rows lie row_bytes apart. */
static inline void pack_words(const uint8_t *raw, size_t row_bytes, int words, uint8_t *packed) {
    for (int r = 0; r < GQA_PANEL; r += 4, raw += 4 * row_bytes, packed += 16)
        for (int g = 0; g < words; g += 4)
            gqa_transpose_words(packed + g * PLANE, PLANE, raw + 4 * g, row_bytes);
}

/* The 32 fifth bits of q5_0 and q5_1, bit i for value i, as a plane word whose byte i % 4 has bit
 * i / 4. */
static uint32_t spread_bits(uint32_t qh) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i++) word |= (qh >> i & 1) << (8 * (i % 4) + i / 4);
    return word;
}

/* ---- blocks of 32 columns ------------------------------------------------------------------- */

/* Two bytes of every row, which lie row_bytes apart, beside each other. */
static void pack_halves(const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    for (int row = 0; row < GQA_PANEL; row++, raw += row_bytes, packed += 2) memcpy(packed, raw, 2);
}

/* Types of four bits keep values i and i + 16 in one byte: just as a packed block does. A block of
 * the file: one or two numbers in f16, fifth bits if there are, words. */
static void pack_block_0(int type, const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    const int halves = type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1 ? 2 : 1;
    const int with_fifth = type == GQA_TYPE_Q5_0 || type == GQA_TYPE_Q5_1;
    const int words = type == GQA_TYPE_Q8_0 ? 8 : 4;
    uint8_t *scales = packed + (size_t)(words + with_fifth) * PLANE;
    for (int i = 0; i < halves; i++)
        pack_halves(raw + 2 * i, row_bytes, scales + 2 * GQA_PANEL * i);
    raw += 2 * halves;
    for (int row = 0; row < GQA_PANEL && with_fifth; row++)
        put32(packed + 4 * PLANE + 4 * row, spread_bits(get32(raw + row * row_bytes)));
    pack_words(raw + 4 * with_fifth, row_bytes, words, packed);
}

/* ---- superblocks of 256 columns ------------------------------------------------------------- */

/* Where a superblock keeps d, dmin, and its values' nibbles, pairs of bits and single bits. */
typedef struct super_fields {
    int d, dmin, nibbles, pairs, bit; /* -1: none */
} super_fields;

static super_fields fields_of(int type) {
    switch (type) {
    case GQA_TYPE_Q2_K: return (super_fields){80, 82, -1, 16, -1};
    case GQA_TYPE_Q3_K: return (super_fields){108, -1, -1, 32, 0};
    case GQA_TYPE_Q4_K: return (super_fields){0, 2, 16, -1, -1};
    case GQA_TYPE_Q5_K: return (super_fields){0, 2, 48, -1, 16};
    case GQA_TYPE_Q6_K: return (super_fields){208, -1, 0, 128, -1};
    default: return (super_fields){0, -1, 8, -1, -1}; /* iq4_xs */
    }
}

/* `n` words of four rows, a row each lane. */
static inline void load_words(gqa_words *out, int n, const uint8_t *b, size_t row_bytes) {
    for (int i = 0; i < n; i += 4)
        gqa_transpose_words(out + i, sizeof *out, b + 4 * i, row_bytes);
}

/* The q of four rows of K blocks, the first at b, in eight packed blocks. */
static void pack_four_rows(int type, const uint8_t *b, size_t row_bytes, uint8_t *packed) {
    const super_fields at = fields_of(type);
    const size_t packed_bytes = gqa_packed_block_bytes(type);
    const int six = type == GQA_TYPE_Q6_K;
    gqa_words low[32], two[16], one[8];
    if (at.nibbles >= 0) load_words(low, 32, b + at.nibbles, row_bytes);
    if (at.pairs >= 0) load_words(two, 16, b + at.pairs, row_bytes);
    if (at.bit >= 0) load_words(one, 8, b + at.bit, row_bytes);
    for (int s = 0; s < 8; s++, packed += packed_bytes) {
        const gqa_words *l = low + (six ? s / 4 * 16 + s % 2 * 8 : s / 2 * 8), *t = two + s / 4 * 8;
        const int nibble = six ? s % 4 / 2 * 4 : s % 2 * 4, pair = s % 4 * 2;
        uint8_t *plane = packed;
        for (int g = 0; g < 4 && at.nibbles >= 0; g++, plane += PLANE) {
            gqa_words q = (l[g] >> nibble & 0x0F0F0F0F) | (l[g + 4] >> nibble & 0x0F0F0F0F) << 4;
            memcpy(plane, &q, sizeof q);
        }
        for (int half = 0; half < 2 && at.pairs >= 0; half++, t += 4, plane += PLANE) {
            gqa_words q = {0};
            for (int g = 0; g < 4; g++) q |= (t[g] >> pair & 0x03030303) << 2 * g;
            memcpy(plane, &q, sizeof q);
        }
        if (at.bit >= 0) {
            gqa_words q = {0};
            for (int g = 0; g < 8; g++) q |= (one[g] >> s & 0x01010101) << g;
            memcpy(plane, &q, sizeof q);
        }
    }
}

static void pack_block_k(int type, const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    const super_fields at = fields_of(type);
    const size_t packed_bytes = gqa_packed_block_bytes(type);
    uint8_t *tail = packed + 8 * packed_bytes;
    const uint8_t *b = raw;
    memset(tail, 0, 64);
    pack_halves(raw + at.d, row_bytes, tail);
    if (at.dmin >= 0) pack_halves(raw + at.dmin, row_bytes, tail + 32);
    for (int row = 0; row < GQA_PANEL; row++, b += row_bytes) {
        uint8_t scales[16], *end = packed + packed_bytes + row;
        const int last = type == GQA_TYPE_IQ4_XS ? -16 : -32;
        gqa_k_scales(type, b, scales);
        for (int s = 0; s < 8; s++, end += packed_bytes) {
            end[last] = scales[2 * s];
            if (type != GQA_TYPE_IQ4_XS) end[-16] = scales[2 * s + 1];
        }
    }
    for (int s = 0; s < 8 && type == GQA_TYPE_IQ4_XS; s++, packed += packed_bytes)
        pack_words(raw + at.nibbles + 16 * s, row_bytes, 4, packed);
    for (int row = 0; row < GQA_PANEL && type != GQA_TYPE_IQ4_XS; row += 4)
        pack_four_rows(type, raw + row * row_bytes, row_bytes, packed + 4 * row);
}

/* Packs a matrix's panel of quantised blocks, and calls for the next panel's bytes: rows are read
 * side by side, which the memory does not guess. */
static void pack_quantised(const gqa_matrix *w, const uint8_t *raw, size_t row_bytes, int rows,
                           uint8_t *packed) {
    enum { LINE = 64, LARGEST = 256 };
    const int is_k = is_k_quant(w->type);
    const size_t block = gqa_type_info_of(w->type)->bytes, bytes = gqa_packed_block_bytes(w->type);
    const uint8_t *next = raw + GQA_PANEL * row_bytes;
    uint8_t filled[GQA_PANEL * LARGEST]; /* where rows are missing: with rows of 0 */
    memset(filled, 0, rows < GQA_PANEL ? sizeof filled : 0);
    for (int k = 0; k < w->cols; k += is_k ? 256 : 32, raw += block, next += GQA_PANEL * block) {
        const uint8_t *from = raw;
        size_t step = row_bytes;
        for (size_t at = 0; at < GQA_PANEL * block; at += LINE) __builtin_prefetch(next + at);
        if (rows < GQA_PANEL) {
            for (int r = 0; r < rows; r++) memcpy(filled + r * LARGEST, raw + r * row_bytes, block);
            from = filled;
            step = LARGEST;
        }
        if (is_k) pack_block_k(w->type, from, step, packed);
        else pack_block_0(w->type, from, step, packed);
        packed += is_k ? 8 * bytes + 64 : bytes;
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

/* Float columns of `size` bytes a value. */
static void pack_floats(const uint8_t *raw, size_t row_bytes, size_t size, int rows, int cols,
                        uint8_t *dst) {
    for (int k = 0; k < cols; k++, raw += size, dst += GQA_PANEL * size)
        for (int r = 0; r < rows; r++) memcpy(dst + r * size, raw + r * row_bytes, size);
}

void gqa_pack_panel(const gqa_matrix *w, int panel, uint8_t *dst) {
    const size_t size = gqa_type_info_of(w->type)->bytes;
    const size_t row_bytes = gqa_type_bytes(w->type, w->cols);
    const uint8_t *raw = w->raw + panel * GQA_PANEL * row_bytes;
    const int rows = min_int(w->rows - panel * GQA_PANEL, GQA_PANEL);
    if (rows < GQA_PANEL) memset(dst, 0, gqa_panel_bytes(w->type, w->cols));
    if (size == 4) pack_floats(raw, row_bytes, 4, rows, w->cols, dst);
    else if (size == 2) pack_floats(raw, row_bytes, 2, rows, w->cols, dst);
    else pack_quantised(w, raw, row_bytes, rows, dst);
}

/* ---- parts ---------------------------------------------------------------------------------- */

gqa_matrix gqa_matrix_rows(const gqa_matrix *w, int first, int rows) {
    gqa_matrix m = *w;
    m.rows = rows;
    m.raw += (size_t)first * gqa_type_bytes(w->type, (uint64_t)w->cols);
    if (m.packed) m.packed += (size_t)(first / GQA_PANEL) * w->panel_bytes;
    return m;
}

size_t gqa_matmul_scratch(int max_k) {
    return GQA_MATMUL_SCRATCH + GQA_UNIT_PANELS * gqa_panel_bytes(GQA_TYPE_F32, max_k);
}
