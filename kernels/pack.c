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
static uint64_t get64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }

/* Word g of a row becomes that row's of plane g: of `rows` rows that lie row_bytes apart, two words
 * of two rows at a time. */
static void pack_words(const uint8_t *raw, size_t row_bytes, int rows, int words,
                       uint8_t *packed) {
    int r = 0;
    for (; r + 2 <= rows; r += 2, raw += 2 * row_bytes, packed += 8)
        for (int g = 0; g < words; g += 2) {
            uint64_t a = get64(raw + 4 * g), b = get64(raw + row_bytes + 4 * g);
            put64(packed + g * PLANE, (a & UINT32_MAX) | b << 32);
            put64(packed + (g + 1) * PLANE, a >> 32 | (b & ~(uint64_t)UINT32_MAX));
        }
    for (int g = 0; g < words && r < rows; g++) put32(packed + g * PLANE, get32(raw + 4 * g));
}

/* The 32 fifth bits of q5_0 and q5_1, bit i for value i, as a plane word whose byte i % 4 has bit
 * i / 4. */
static uint32_t spread_bits(uint32_t qh) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i++) word |= (qh >> i & 1) << (8 * (i % 4) + i / 4);
    return word;
}

/* ---- blocks of 32 columns, of all rows ------------------------------------------------------ */

/* Types of four bits keep values i and i + 16 in one byte: just as a packed block does. */
static void pack_block_0(int type, const uint8_t *raw, size_t row_bytes, int rows, uint8_t *packed,
                         size_t packed_bytes) {
    const int with_min = type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1, head = with_min ? 4 : 2;
    const int with_fifth = type == GQA_TYPE_Q5_0 || type == GQA_TYPE_Q5_1;
    const uint8_t *b = raw;
    for (int row = 0; row < rows; row++, b += row_bytes) {
        uint8_t *scales = packed + packed_bytes - 16 * head + 2 * row;
        memcpy(scales, b, 2);
        if (with_min) memcpy(scales + 32, b + 2, 2);
        if (with_fifth) put32(packed + 4 * PLANE + 4 * row, spread_bits(get32(b + head)));
    }
    pack_words(raw + head + 4 * with_fifth, row_bytes, rows, type == GQA_TYPE_Q8_0 ? 8 : 4, packed);
}

/* ---- superblocks: one row's block of 256 columns -------------------------------------------- */

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

/* The q of sub-block s, 32 columns, of a K block b. */
static void pack_sub_block(int type, const uint8_t *b, int s, uint8_t *packed, int row) {
    const super_fields at = fields_of(type);
    const int six = type == GQA_TYPE_Q6_K;
    const int shift = six ? s % 4 / 2 * 4 : s % 2 * 4;
    const uint8_t *low = b + at.nibbles + (six ? s / 4 * 64 + s % 2 * 32 : s / 2 * 32);
    uint32_t q[8] = {0}, bits = 0, pairs[2] = {0, 0};
    for (int g = 0, i = 0; g < 8; g++, i += 4) {
        if (at.nibbles >= 0) q[g] = get32(low + i) >> shift & 0x0F0F0F0F;
        if (at.pairs >= 0) {
            uint32_t two = get32(b + at.pairs + s / 4 * 32 + i) >> (s % 4 * 2) & 0x03030303;
            pairs[g / 4] |= two << (g % 4 * 2);
        }
        if (at.bit >= 0) bits |= (get32(b + at.bit + i) >> s & 0x01010101) << g;
    }
    packed += 4 * row;
    for (int g = 0; g < 4 && at.nibbles >= 0; g++, packed += PLANE)
        put32(packed, q[g] | q[g + 4] << 4);
    for (int half = 0; half < 2 && at.pairs >= 0; half++, packed += PLANE)
        put32(packed, pairs[half]);
    if (at.bit >= 0) put32(packed, bits);
}

static void pack_block_k(int type, const uint8_t *b, uint8_t *packed, int row,
                         size_t packed_bytes) {
    const super_fields at = fields_of(type);
    uint8_t scales[16], *tail = packed + 8 * packed_bytes + 2 * row;
    memcpy(tail, b + at.d, 2);
    if (at.dmin >= 0) memcpy(tail + 32, b + at.dmin, 2);
    else memset(tail + 32, 0, 2);
    gqa_k_scales(type, b, scales);
    for (int s = 0; s < 8; s++, packed += packed_bytes) {
        uint8_t *end = packed + packed_bytes + row;
        if (type == GQA_TYPE_IQ4_XS) {
            pack_words(b + at.nibbles + 16 * s, 0, 1, 4, packed + 4 * row);
            end[-16] = scales[2 * s];
        } else {
            pack_sub_block(type, b, s, packed, row);
            end[-32] = scales[2 * s];
            end[-16] = scales[2 * s + 1];
        }
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
    const gqa_type_info *t = gqa_type_info_of(w->type);
    const size_t row_bytes = gqa_type_bytes(w->type, w->cols);
    const size_t packed_bytes = gqa_packed_block_bytes(w->type);
    const uint8_t *raw = w->raw + panel * GQA_PANEL * row_bytes;
    const int rows = min_int(w->rows - panel * GQA_PANEL, GQA_PANEL);
    if (rows < GQA_PANEL) memset(dst, 0, gqa_panel_bytes(w->type, w->cols));
    if (t->bytes == 4) {
        pack_floats(raw, row_bytes, 4, rows, w->cols, dst);
    } else if (t->bytes == 2) {
        pack_floats(raw, row_bytes, 2, rows, w->cols, dst);
    } else if (is_k_quant(w->type)) {
        for (int k = 0; k < w->cols; k += 256, raw += t->bytes, dst += 8 * packed_bytes + 64)
            for (int r = 0; r < rows; r++)
                pack_block_k(w->type, raw + r * row_bytes, dst, r, packed_bytes);
    } else {
        for (int k = 0; k < w->cols; k += 32, raw += t->bytes, dst += packed_bytes)
            pack_block_0(w->type, raw, row_bytes, rows, dst, packed_bytes);
    }
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
