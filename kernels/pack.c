/* pack.c: weights in panels of 16 rows, so that a vector holds one k of 16 rows (or four k's in bytes) and a product needs
 * no horizontal sums. Nothing is rounded: unpacking gives back the file's bytes.
 *
 * f32, f16, bf16: [cols][16], the row fastest.
 *
 * Quantised types: one record for 32 columns. Columns come in eight groups g of four; a "plane" is 64 bytes, four for each
 * of 16 rows: byte 4 * row + i belongs to column 4 * g + i.
 *   q8_0      plane 0..7: q (signed) of group g                                              f16 d[16]          544 bytes
 *   q4_0      plane 0..3: q of group g in the low nibble, of group g + 4 in the high one     f16 d[16]          288
 *   q5_0      as q4_0; plane 4: bit g is the fifth bit of group g's q                        f16 d[16]          352
 *   q4_k      planes as q4_0;                                        u8 scale[16], u8 min[16]                   288
 *   q5_k      planes as q5_0;                                        u8 scale[16], u8 min[16]                   352
 *   q6_k      as q4_0; planes 4, 5: bits 2g.. are the upper bits of groups 0..3, 4..7;  i8 scale[2][16]         416
 * K types: after eight records, f16 d[16] and f16 dmin[16] (zero for q6_k), 64 bytes. */
#include <string.h>

#include "kernels.h"

enum { PLANE = 4 * GQA_PANEL };

size_t gqa_packed_block_bytes(int type) {
    switch (type) {
    case GQA_TYPE_Q8_0: return 8 * PLANE + 32;
    case GQA_TYPE_Q4_0: case GQA_TYPE_Q4_K: return 4 * PLANE + 32;
    case GQA_TYPE_Q5_0: case GQA_TYPE_Q5_K: return 5 * PLANE + 32;
    case GQA_TYPE_Q6_K: return 6 * PLANE + 32;
    default: return 0;
    }
}

static int is_k(int type) { return type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K || type == GQA_TYPE_Q6_K; }

size_t gqa_panel_bytes(int type, int cols) {
    size_t n = (size_t)cols, record = gqa_packed_block_bytes(type), bytes;
    if (!record) bytes = n * GQA_PANEL * (type == GQA_TYPE_F32 ? 4 : 2);
    else if (is_k(type)) bytes = n / 256 * (8 * record + 64);
    else bytes = n / 32 * record;
    return (bytes + 63) & ~(size_t)63;
}

int gqa_type_wants_q8(int type) { return gqa_packed_block_bytes(type) != 0; }

/* ---- words: four columns at once --------------------------------------------------------------------------------- */

static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

/* Four words of a record hold 32 nibbles: q[g] and q[g + 4] are words of four values below 16. */
static void put_nibbles(uint8_t *record, int row, const uint32_t q[8]) {
    for (int g = 0; g < 4; g++) put32(record + g * PLANE + 4 * row, (q[g] & 0x0F0F0F0F) | (q[g + 4] & 0x0F0F0F0F) << 4);
}
static void get_nibbles(const uint8_t *record, int row, uint32_t q[8]) {
    for (int g = 0; g < 4; g++) {
        uint32_t v = get32(record + g * PLANE + 4 * row);
        q[g] = v & 0x0F0F0F0F;
        q[g + 4] = v >> 4 & 0x0F0F0F0F;
    }
}

/* q4_0 and q5_0 keep values i and i + 16 in one byte: just as a record does. */
static void pack_nibbles_0(const uint8_t *qs, uint8_t *record, int row) {
    for (int g = 0; g < 4; g++) put32(record + g * PLANE + 4 * row, get32(qs + 4 * g));
}
static void unpack_nibbles_0(const uint8_t *record, uint8_t *qs, int row) {
    for (int g = 0; g < 4; g++) put32(qs + 4 * g, get32(record + g * PLANE + 4 * row));
}

/* The 32 fifth bits of q5_0, bit i for value i, to and from a plane word whose byte i % 4 has bit i / 4. */
static uint32_t spread_bits(uint32_t qh) {
    uint32_t word = 0;
    for (int i = 0; i < 32; i++) word |= (qh >> i & 1) << (8 * (i % 4) + i / 4);
    return word;
}
static uint32_t gather_bits(uint32_t word) {
    uint32_t qh = 0;
    for (int i = 0; i < 32; i++) qh |= (word >> (8 * (i % 4) + i / 4) & 1) << i;
    return qh;
}

/* ---- blocks: one row's block of 32 or 256 columns ---------------------------------------------------------------- */

static void pack_block_0(int type, const uint8_t *b, uint8_t *record, int row, size_t record_bytes) {
    memcpy(record + record_bytes - 32 + 2 * row, b, 2);
    if (type == GQA_TYPE_Q8_0) {
        for (int g = 0; g < 8; g++) put32(record + g * PLANE + 4 * row, get32(b + 2 + 4 * g));
    } else if (type == GQA_TYPE_Q4_0) {
        pack_nibbles_0(b + 2, record, row);
    } else {
        pack_nibbles_0(b + 6, record, row);
        put32(record + 4 * PLANE + 4 * row, spread_bits(get32(b + 2)));
    }
}

static void unpack_block_0(int type, const uint8_t *record, uint8_t *b, int row, size_t record_bytes) {
    memcpy(b, record + record_bytes - 32 + 2 * row, 2);
    if (type == GQA_TYPE_Q8_0) {
        for (int g = 0; g < 8; g++) put32(b + 2 + 4 * g, get32(record + g * PLANE + 4 * row));
    } else if (type == GQA_TYPE_Q4_0) {
        unpack_nibbles_0(record, b + 2, row);
    } else {
        unpack_nibbles_0(record, b + 6, row);
        put32(b + 2, gather_bits(get32(record + 4 * PLANE + 4 * row)));
    }
}

/* Where sub-block s of a K block keeps its nibbles: words at ql + 4 * g, shifted right by *shift. */
static const uint8_t *k_nibbles(int type, const uint8_t *b, int s, int *shift) {
    if (type == GQA_TYPE_Q6_K) {
        *shift = s % 4 / 2 * 4;
        return b + s / 4 * 64 + s % 2 * 32;
    }
    *shift = s % 2 * 4;
    return b + (type == GQA_TYPE_Q5_K ? 48 : 16) + s / 2 * 32;
}

static void pack_block_k(int type, const uint8_t *b, uint8_t *dst, int row, size_t record_bytes) {
    uint8_t scale[8], min[8], *tail = dst + 8 * record_bytes;
    int six = type == GQA_TYPE_Q6_K;
    if (!six) gqa_k_scales(b + 4, scale, min);
    memcpy(tail + 2 * row, six ? b + 208 : b, 2);
    if (!six) memcpy(tail + 32 + 2 * row, b + 2, 2);
    for (int s = 0; s < 8; s++, dst += record_bytes) {
        int shift;
        const uint8_t *ql = k_nibbles(type, b, s, &shift);
        uint8_t *scales = dst + record_bytes - 32 + row;
        uint32_t q[8], high = 0, high2[2] = {0, 0};
        for (int g = 0; g < 8; g++) {
            q[g] = get32(ql + 4 * g) >> shift & 0x0F0F0F0F;
            if (type == GQA_TYPE_Q5_K) high |= (get32(b + 16 + 4 * g) >> s & 0x01010101) << g;
            if (six) high2[g / 4] |= (get32(b + 128 + s / 4 * 32 + 4 * g) >> (s % 4 * 2) & 0x03030303) << (g % 4 * 2);
        }
        put_nibbles(dst, row, q);
        if (type == GQA_TYPE_Q5_K) put32(dst + 4 * PLANE + 4 * row, high);
        if (six) put32(dst + 4 * PLANE + 4 * row, high2[0]), put32(dst + 5 * PLANE + 4 * row, high2[1]);
        scales[0] = six ? b[192 + 2 * s] : scale[s];
        scales[16] = six ? b[193 + 2 * s] : min[s];
    }
}

static void unpack_block_k(int type, const uint8_t *src, uint8_t *b, int row, size_t record_bytes) {
    const uint8_t *tail = src + 8 * record_bytes;
    int six = type == GQA_TYPE_Q6_K;
    memset(b, 0, (size_t)gqa_type_info_of(type)->bytes);
    memcpy(six ? b + 208 : b, tail + 2 * row, 2);
    if (!six) memcpy(b + 2, tail + 32 + 2 * row, 2);
    for (int s = 0; s < 8; s++, src += record_bytes) {
        int shift;
        uint8_t *ql = (uint8_t *)k_nibbles(type, b, s, &shift);
        const uint8_t *scales = src + record_bytes - 32 + row;
        uint32_t q[8];
        get_nibbles(src, row, q);
        for (int g = 0; g < 8; g++) {
            put32(ql + 4 * g, get32(ql + 4 * g) | q[g] << shift);
            uint8_t *qh = b + (six ? 128 + s / 4 * 32 : 16) + 4 * g;
            uint32_t high = six ? get32(src + (4 + g / 4) * PLANE + 4 * row) >> (g % 4 * 2) & 0x03030303 : 0;
            if (type == GQA_TYPE_Q5_K) high = get32(src + 4 * PLANE + 4 * row) >> g & 0x01010101;
            if (high) put32(qh, get32(qh) | high << (six ? s % 4 * 2 : s));
        }
        if (six) {
            b[192 + 2 * s] = scales[0], b[193 + 2 * s] = scales[16];
        } else if (s < 4) {
            b[4 + s] |= scales[0] & 63, b[8 + s] |= scales[16] & 63;
        } else {
            b[8 + s] = (uint8_t)((scales[0] & 15) | scales[16] << 4);
            b[s] |= (uint8_t)(scales[0] >> 4 << 6), b[4 + s] |= (uint8_t)(scales[16] >> 4 << 6);
        }
    }
}

/* ---- panels ------------------------------------------------------------------------------------------------------ */

static int panel_rows(const gqa_matrix *w, int panel) {
    int rows = w->rows - panel * GQA_PANEL;
    return rows < GQA_PANEL ? rows : GQA_PANEL;
}

static void pack_floats(const uint8_t *raw, size_t row_bytes, size_t size, int rows, int cols, uint8_t *dst) {
    for (int k = 0; k < cols; k++, dst += GQA_PANEL * size)
        for (int r = 0; r < rows; r++) memcpy(dst + (size_t)r * size, raw + (size_t)r * row_bytes + (size_t)k * size, size);
}

void gqa_pack_panel(const gqa_matrix *w, int panel, uint8_t *dst) {
    const gqa_type_info *t = gqa_type_info_of(w->type);
    size_t row_bytes = (size_t)gqa_type_bytes(w->type, (uint64_t)w->cols), record = gqa_packed_block_bytes(w->type);
    size_t step = is_k(w->type) ? 8 * record + 64 : record;
    const uint8_t *raw = w->raw + (size_t)panel * GQA_PANEL * row_bytes;
    int rows = panel_rows(w, panel);
    if (rows < GQA_PANEL) memset(dst, 0, gqa_panel_bytes(w->type, w->cols));
    if (!record) {
        if (t->bytes == 4) pack_floats(raw, row_bytes, 4, rows, w->cols, dst);
        else pack_floats(raw, row_bytes, 2, rows, w->cols, dst);
        return;
    }
    for (int k = 0; k < w->cols; k += t->block, dst += step)
        for (int r = 0; r < rows; r++) {
            const uint8_t *b = raw + (size_t)r * row_bytes + (size_t)(k / t->block) * (size_t)t->bytes;
            if (is_k(w->type)) pack_block_k(w->type, b, dst, r, record);
            else pack_block_0(w->type, b, dst, r, record);
        }
}

void gqa_unpack_panel(const gqa_matrix *w, int panel, const uint8_t *src, uint8_t *dst) {
    const gqa_type_info *t = gqa_type_info_of(w->type);
    size_t row_bytes = (size_t)gqa_type_bytes(w->type, (uint64_t)w->cols), record = gqa_packed_block_bytes(w->type);
    size_t step = is_k(w->type) ? 8 * record + 64 : record;
    int rows = panel_rows(w, panel);
    for (int k = 0; k < w->cols; k += t->block, src += record ? step : (size_t)GQA_PANEL * (size_t)t->bytes)
        for (int r = 0; r < rows; r++) {
            uint8_t *b = dst + (size_t)r * row_bytes + (size_t)(k / t->block) * (size_t)t->bytes;
            if (!record) memcpy(b, src + (size_t)r * (size_t)t->bytes, (size_t)t->bytes);
            else if (is_k(w->type)) unpack_block_k(w->type, src, b, r, record);
            else unpack_block_0(w->type, src, b, r, record);
        }
}

/* ---- activations ------------------------------------------------------------------------------------------------- */

static size_t padded(int k) { return ((size_t)k + 255) & ~(size_t)255; }

size_t gqa_acts_bytes(int k, int max_n) {
    size_t n = padded(k) * (size_t)max_n;
    return n + n / 32 * (2 * sizeof(float) + sizeof(int32_t)) + n / 16 * sizeof(int32_t);
}

void gqa_acts_init(gqa_acts *a, void *memory, int k, int max_n) {
    size_t n = padded(k) * (size_t)max_n;
    a->k = k;
    a->kpad = (int)padded(k);
    a->q = memory;
    a->d = (float *)(a->q + n);
    a->dsum = a->d + n / 32;
    a->bias32 = (int32_t *)(a->dsum + n / 32);
    a->bias16 = a->bias32 + n / 32;
}

size_t gqa_matmul_scratch(int max_k) {
    return GQA_MATMUL_SCRATCH + GQA_UNIT_PANELS * gqa_panel_bytes(GQA_TYPE_F32, max_k);
}
