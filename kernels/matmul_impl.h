/* matmul_impl.h: y = x W^T over packed panels (pack.c draws them). Lane = row: a vector of weights
 * holds one column of several rows (or four columns, in bytes), an activation is broadcast to all
 * lanes, and sums never leave their lane.
 *
 *   decoding, few columns of x: one pass over the panel for up to 4 of them, unpacking in
 *       registers: as fast as memory delivers.
 *   prefill: KC columns of the unit's 64 rows are unpacked once into scratch (second-level cache),
 *       vector by vector:
 *           bytes [k / 4][4 * VF_LANES], then scales and minima [block][VF_LANES];
 *           or floats [k][VF_LANES], or of bf16 [k / 2][VF_LANES][2]
 *       and multiplied with NR columns of x at a time (first-level cache). The sums of a tile, MR
 *       vectors of rows times NR columns of x, stay in registers (Goto & van de Geijn 2008).
 *
 * The loops of quantised weights are in matmul_int8_impl.h, those of float weights here. */

/* Block sizes, named as in sgemm_impl.h; MR counts vectors of rows of W. */
#define FLOAT_MR (VF_REGISTERS / 8)
#define FLOAT_NR 6
#define FLOAT_KC 512
#define BF16_KC 1024
#ifndef PACK_CODES
#define PACK_CODES gqa_pack_codes_any
#endif

#define UNIT_VECTORS (GQA_UNIT_PANELS * PANEL_VECTORS)
#define DECODE_MR (PANEL_VECTORS < 2 ? PANEL_VECTORS : 2)        /* decoding floats */

#ifndef GQA_INT8_ONLY
/* ---- float weights -------------------------------------------------------------------------- */

TEMPLATE vf load_weights(int type, const uint8_t *p) {
    if (type == GQA_TYPE_F32) return vf_load((const float *)p);
    if (type == GQA_TYPE_F16) return vf_load_f16((const uint16_t *)p);
    return vf_load_bf16((const uint16_t *)p);
}

/* sum [mr][nc] += a column of W, at w, times the values of nc columns of x, at x + c * ldx. */
TEMPLATE void multiply_column(int type, int mr, int nc, const uint8_t *w, const float *x,
                              size_t ldx, tile_sums sum) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2;
    UNROLL for (int v = 0; v < mr; v++) {
        vf weights = load_weights(type, w + v * VF_LANES * size);
        UNROLL for (int c = 0; c < nc; c++)
            sum[v][c] = vf_fma(weights, vf_set1(x[c * ldx]), sum[v][c]);
    }
}

/* As decode_ints; several partial sums a row hide the latency of the multiply-add. They are as many
 * for any nc: a column's sum does not depend on the columns beside it. */
TEMPLATE void decode_floats(int type, int nc, const uint8_t *panel, const gqa_acts *a, int cols,
                            int first, fetch next, float *out) {
    enum { CHAINS = 4 };
    const int size = type == GQA_TYPE_F32 ? 4 : 2, column = GQA_PANEL * size;
    const int mr = nc == 1 ? DECODE_MR : 1, fit = VF_REGISTERS / (2 * CHAINS);
    const int step = nc < fit ? nc : fit; /* columns of x at a time */
    const float *x = a->x + first * a->ldx;
    const int every_line = FETCH_EVERY_LINE(a->every_line);
    for (int c0 = 0; c0 < nc; c0 += step, x += step * a->ldx, out += step * GQA_PANEL)
        for (int v0 = 0; v0 < PANEL_VECTORS; v0 += mr) {
            const uint8_t *w = panel + v0 * VF_LANES * size;
            tile_sums sum[CHAINS];
            int k = 0;
            UNROLL for (int j = 0; j < CHAINS; j++) tile_clear(mr, step, sum[j]);
            for (; k + CHAINS <= cols; k += CHAINS) {
                if (nc == 4 && next.step && c0 + v0 == 0)
                    fetch_next(&next, next.step * CHAINS / 32);
                else if (every_line && c0 + v0 == 0) fetch_ahead(w, CHAINS * column, 1);
                UNROLL for (int j = 0; j < CHAINS; j++, w += column)
                    multiply_column(type, mr, step, w, x + k + j, a->ldx, sum[j]);
            }
            for (; k < cols; k++, w += column)
                multiply_column(type, mr, step, w, x + k, a->ldx, sum[0]);
            UNROLL for (int j = 1; j < CHAINS; j++)
                UNROLL for (int v = 0; v < mr; v++)
                    UNROLL for (int c = 0; c < step; c++)
                        sum[0][v][c] = vf_add(sum[0][v][c], sum[j][v][c]);
            tile_store(mr, step, sum[0], out + v0 * VF_LANES, GQA_PANEL);
        }
}

/* The columns k0..k1-1 of a panel into dst [PANEL_VECTORS][FLOAT_KC][VF_LANES]. */
TEMPLATE void unpack_floats(int type, const uint8_t *panel, int k0, int k1, int every_line,
                            float *dst) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2;
    const size_t column = GQA_PANEL * size;
    const uint8_t *w = panel + k0 * column;
    for (int k = 0; k < k1 - k0; k++, w += column) {
        if (FETCH_EVERY_LINE(every_line) && k % 2 == 0) fetch_ahead(w, 2 * GQA_PANEL * size, 1);
        UNROLL for (int v = 0; v < PANEL_VECTORS; v++)
            vf_store(dst + (v * FLOAT_KC + k) * VF_LANES,
                     load_weights(type, w + v * VF_LANES * size));
    }
}

/* One tile, as tile_of_ints: kc columns of w [FLOAT_MR][FLOAT_KC][VF_LANES]. */
static void float_tile(const void *vectors, int kc, const acts_view *x, float *out,
                       int accumulate) {
    const float *w = vectors;
    tile_sums sum;
    if (accumulate) tile_load(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
    else tile_clear(FLOAT_MR, FLOAT_NR, sum);
    for (int k = 0; k < kc; k++) {
        vf weights[FLOAT_MR];
        UNROLL for (int v = 0; v < FLOAT_MR; v++)
            weights[v] = vf_load(w + (v * FLOAT_KC + k) * VF_LANES);
        UNROLL for (int c = 0; c < FLOAT_NR; c++) {
            vf xk = vf_set1(x->x[c * x->ldx + k]);
            UNROLL for (int v = 0; v < FLOAT_MR; v++)
                sum[v][c] = vf_fma(weights[v], xk, sum[v][c]);
        }
    }
    tile_store(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
}

#endif
/* ---- the functions of each type ------------------------------------------------------------- */

typedef struct panel_kernels {
    /* decode_floats for 1, 2, 4 columns of x, up to DECODE_NR; decode_ints for 1, 2, 4 or for 1, 4,
     * 4: the buffers have columns past the last (gqa_acts_init) */
    void (*decode[3])(const uint8_t *panel, const gqa_acts *a, int cols, int first, fetch next,
                      float *out);
    void (*unpack)(const uint8_t *panel, int k0, int k1, int every_line, void *dst);
    void (*tile)(const void *w, int kc, const acts_view *x, float *out, int accumulate);
    int mr, nr, kc;
    size_t vector_bytes; /* kc columns of a vector of rows, unpacked */
} panel_kernels;

#define INT_TYPES(X) /* name, type, the function for two columns */                              \
    X(q8_0, GQA_TYPE_Q8_0, decode_2) X(q4_0, GQA_TYPE_Q4_0, decode_2)                            \
    X(q4_k, GQA_TYPE_Q4_K, decode_2) X(q5_0, GQA_TYPE_Q5_0, decode_4)                            \
    X(q4_1, GQA_TYPE_Q4_1, decode_4) X(q5_1, GQA_TYPE_Q5_1, decode_4)                            \
    X(q2_k, GQA_TYPE_Q2_K, decode_4) X(q3_k, GQA_TYPE_Q3_K, decode_4)                            \
    X(q5_k, GQA_TYPE_Q5_K, decode_4) X(q6_k, GQA_TYPE_Q6_K, decode_2)                            \
    X(iq4_nl, GQA_TYPE_IQ4_NL, decode_4) X(iq4_xs, GQA_TYPE_IQ4_XS, decode_4)
#ifdef GQA_INT8_ONLY
#define FLOAT_TYPES(X)
#else
#define FLOAT_TYPES(X) X(f32, GQA_TYPE_F32) X(f16, GQA_TYPE_F16) X(bf16, GQA_TYPE_BF16)
#endif
#define NAME(name, what) ISA_NAME(name##_##what)

#define DECODE_FUNCTION(name, type, nc, decode)                                                  \
    static void name(const uint8_t *panel, const gqa_acts *a, int cols, int first, fetch next,   \
                     float *out) {                                                               \
        decode(type, nc, panel, a, cols, first, next, out);                                      \
    }
#define PANEL_FUNCTIONS(name, type, decode, unpack_columns)                                      \
    DECODE_FUNCTION(NAME(name, decode_1), type, 1, decode)                                       \
    DECODE_FUNCTION(NAME(name, decode_4), type, 4, decode)                                       \
    static void NAME(name, unpack)(const uint8_t *panel, int k0, int k1, int every_line,         \
                                   void *dst) {                                                  \
        unpack_columns(type, panel, k0, k1, every_line, dst);                                    \
    }
#define FLOAT_FUNCTIONS(name, type)                                                              \
    PANEL_FUNCTIONS(name, type, decode_floats, unpack_floats)                                    \
    DECODE_FUNCTION(NAME(name, decode_2), type, 2, decode_floats)
#define INT_FUNCTIONS(name, type, two)                                                           \
    PANEL_FUNCTIONS(name, type, decode_ints, unpack_ints)                                        \
    static void NAME(name, tile)(const void *w, int kc, const acts_view *x, float *out,          \
                                 int accumulate) {                                               \
        tile_of_ints(type, w, kc, x, out, accumulate);                                           \
    }
INT_TYPES(INT_FUNCTIONS)
FLOAT_TYPES(FLOAT_FUNCTIONS)
DECODE_FUNCTION(NAME(q8_0, decode_2), GQA_TYPE_Q8_0, 2, decode_ints)
DECODE_FUNCTION(NAME(q4_0, decode_2), GQA_TYPE_Q4_0, 2, decode_ints)
DECODE_FUNCTION(NAME(q4_k, decode_2), GQA_TYPE_Q4_K, 2, decode_ints)
DECODE_FUNCTION(NAME(q6_k, decode_2), GQA_TYPE_Q6_K, 2, decode_ints)

/* Types that few files have are decoded one column at a time; the most common ones also two: one
 * column in two planes, or two of a guess. */
#define INT_DECODE_NR(type)                                                                      \
    ((type) == GQA_TYPE_Q4_1 || (type) == GQA_TYPE_Q5_1 || (type) == GQA_TYPE_Q2_K ||            \
     (type) == GQA_TYPE_Q3_K || (type) == GQA_TYPE_IQ4_NL ? 1 : DECODE_NR)
#define PANEL_CASE(name, type, columns, decode_2, ...)                                           \
    case type: {                                                                                 \
        static const panel_kernels kernels = {                                                   \
            {NAME(name, decode_1), (columns) >= 2 ? NAME(name, decode_2) : NULL,                 \
             (columns) >= 4 ? NAME(name, decode_4) : NULL},                                      \
            NAME(name, unpack), __VA_ARGS__                                                      \
        };                                                                                       \
        return &kernels;                                                                         \
    }
#define INT_CASE(name, type, two) \
    PANEL_CASE(name, type, INT_DECODE_NR(type), two, NAME(name, tile), INT_MR, INT_NR, \
               INT_KC, sizeof(unpacked))
#define FLOAT_CASE(name, type) \
    PANEL_CASE(name, type, DECODE_NR, decode_2, float_tile, FLOAT_MR, FLOAT_NR, FLOAT_KC, \
               sizeof(float) * FLOAT_KC * VF_LANES)

static const panel_kernels *kernels_of(int type) {
    switch (type) {
    INT_TYPES(INT_CASE)
    FLOAT_TYPES(FLOAT_CASE)
    default: return NULL; /* no such matrix */
    }
}

/* ---- float weights as bf16 ------------------------------------------------------------------ */

#ifdef VF_BF16
VF_BF16 static void kernel_round_acts(gqa_acts *a, int i0, int i1, int k0, int k1) {
    for (int i = i0; i < i1; i++)
        for (int k = k0; k < k1; k += VF_LANES) {
            float padded[VF_LANES] = {0};
            const float *x = a->x + i * a->ldx + k;
            if (a->k - k < VF_LANES) x = memcpy(padded, x, sizeof(float) * (a->k - k));
            vf_store_bf16(a->bf16 + i * a->kpad + k, vf_load(x));
        }
}

/* The columns k0..k1-1 of a panel into dst [PANEL_VECTORS][BF16_KC / 2][VF_LANES] pairs. */
VF_BF16 TEMPLATE void unpack_pairs(int type, const uint8_t *panel, int k0, int k1, int every_line,
                                   uint32_t *dst) {
    const int size = type == GQA_TYPE_F32 ? 4 : 2, column = GQA_PANEL * size;
    const uint8_t *w = panel + (size_t)k0 * column;
    for (int k = k0; k < k1; k += 2, w += 2 * column, dst += VF_LANES) {
        if (FETCH_EVERY_LINE(every_line)) fetch_ahead(w, 2 * column, 1);
        UNROLL for (int v = 0; v < PANEL_VECTORS; v++) {
            const uint8_t *at = w + v * VF_LANES * size;
            vf low = load_weights(type, at);
            vf high = k + 1 < k1 ? load_weights(type, at + column) : vf_set1(0);
            vi_store(dst + v * BF16_KC / 2 * VF_LANES, vf_pairs_bf16(low, high));
        }
    }
}

/* As float_tile, two columns of w [FLOAT_MR][BF16_KC / 2][VF_LANES] at a time. */
VF_BF16 static void bf16_tile(const void *vectors, int kc, const acts_view *x, float *out,
                              int accumulate) {
    const uint32_t *w = vectors;
    tile_sums sum;
    if (accumulate) tile_load(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
    else tile_clear(FLOAT_MR, FLOAT_NR, sum);
    for (int k = 0; k < kc; k += 2, w += VF_LANES) {
        vi weights[FLOAT_MR];
        UNROLL for (int v = 0; v < FLOAT_MR; v++)
            weights[v] = vi_load(w + v * BF16_KC / 2 * VF_LANES);
        UNROLL for (int c = 0; c < FLOAT_NR; c++) {
            int32_t pair;
            memcpy(&pair, x->bf16 + c * x->ldq + k, sizeof pair);
            vi xk = vi_set1(pair);
            UNROLL for (int v = 0; v < FLOAT_MR; v++)
                sum[v][c] = vf_dot_bf16(sum[v][c], weights[v], xk);
        }
    }
    tile_store(FLOAT_MR, FLOAT_NR, sum, out, FLOAT_MR * VF_LANES);
}

#define BF16_FUNCTION(name, type)                                                                \
    VF_BF16 static void NAME(name, pairs)(const uint8_t *panel, int k0, int k1, int every_line,  \
                                          void *dst) {                                           \
        unpack_pairs(type, panel, k0, k1, every_line, dst);                                      \
    }
FLOAT_TYPES(BF16_FUNCTION)
#define BF16_CASE(name, type)                                                                    \
    case type: {                                                                                 \
        static const panel_kernels kernels = {                                                   \
            {NULL}, NAME(name, pairs), bf16_tile, FLOAT_MR, FLOAT_NR, BF16_KC,                   \
            sizeof(uint16_t) * BF16_KC * VF_LANES                                                \
        };                                                                                       \
        return &kernels;                                                                         \
    }
#endif

/* NULL: the type has no such, or the instruction set. */
static const panel_kernels *bf16_kernels_of(int type) {
    switch (type) {
#ifdef VF_BF16
    FLOAT_TYPES(BF16_CASE)
#endif
    default: return NULL;
    }
}

/* ---- a unit of work ------------------------------------------------------------------------- */

/* Copies nc columns of `rows` floats. */
static void copy_columns(float *to, size_t ld_to, const float *from, size_t ld_from, int rows,
                         int nc) {
    for (int c = 0; c < nc; c++, to += ld_to, from += ld_from) {
        int i = 0;
        for (; i + VF_LANES <= rows; i += VF_LANES) vf_store(to + i, vf_load(from + i));
        for (; i < rows; i++) to[i] = from[i];
    }
}

/* Columns 0..n-1 of x (n >= nr) times kc columns of W from k0 on: y, at the unit's first row, = or
 * (k0 > 0) +=. w: the unit's rows, unpacked. The last tile is a whole one too: what it shares with
 * the one before it (`done` columns) is computed again and dropped. */
static void multiply_tiles(const panel_kernels *kernels, const uint8_t *w, int rows, int k0,
                           int kc, const gqa_acts *a, int n, float *y, size_t ldy) {
    const int tile_rows = kernels->mr * VF_LANES, nr = kernels->nr;
    float out[FLOAT_NR * FLOAT_MR * VF_LANES];
    for (int next = 0; next < n; next += nr) {
        const int i = min_int(next, n - nr), done = next - i;
        acts_view x = view_acts(a, i, k0);
        for (int row = 0; row < rows; row += tile_rows) {
            const uint8_t *vectors = w + row / VF_LANES * kernels->vector_bytes;
            float *at = y + i * ldy + row;
            int in_y = min_int(rows - row, tile_rows);
            if (k0) copy_columns(out, tile_rows, at, ldy, in_y, nr);
            kernels->tile(vectors, kc, &x, out, k0 > 0);
            copy_columns(at + done * ldy, ldy, out + done * tile_rows, tile_rows, in_y, nr - done);
        }
    }
}

/* The unit's `count` panels, `rows` rows, times columns 0..n-1 of x; y at the unit's first row. */
static void multiply_unpacking(const panel_kernels *kernels, const uint8_t *panels, size_t bytes,
                               int count, int rows, int cols, const gqa_acts *a, int n, float *y,
                               size_t ldy, uint8_t *scratch) {
    const size_t step = kernels->vector_bytes;
    const int vectors = count * PANEL_VECTORS;
    for (int k0 = 0; k0 < cols; k0 += kernels->kc) {
        int kc = min_int(cols - k0, kernels->kc);
        for (int p = 0; p < count; p++)
            kernels->unpack(panels + p * bytes, k0, k0 + kc, a->every_line,
                            scratch + p * PANEL_VECTORS * step);
        for (int v = vectors; v % kernels->mr; v++) memset(scratch + v * step, 0, step);
        multiply_tiles(kernels, scratch, rows, k0, kc, a, n, y, ldy);
    }
}

/* A panel, `rows` rows of w, times columns 0..n-1 of x; y at its first row. With several groups of
 * columns, each asks for its share of the next panel. */
static void decode_panel(const panel_kernels *kernels, const gqa_matrix *w, const uint8_t *panel,
                         size_t bytes, int rows, const gqa_acts *a, int n, float *y, size_t ldy) {
    const int most = kernels->decode[2] ? DECODE_NR : 1, groups = ceil_div(n, most);
    const int fetches = groups > 1 && FETCH_EVERY_LINE(a->every_line);
    const size_t share = fetches ? bytes / groups : 0;
    fetch next = {panel + bytes, (int)(share * 32 / w->cols)};
    for (int i = 0, nc; i < n; i += nc, next.at += share) {
        float out[4 * GQA_PANEL];
        nc = min_int(n - i, most);
        if (nc == 3 && !gqa_type_wants_q8(w->type)) nc = 2;
        kernels->decode[nc / 2 + (nc == 3)](panel, a, w->cols, i, next, out);
        copy_columns(y + i * ldy, ldy, out, GQA_PANEL, rows, nc);
    }
}

static void kernel_matmul_unit(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                               int unit, void *scratch) {
    const panel_kernels *kernels = kernels_of(w->type);
    const panel_kernels *bf16 = a->bf16 ? bf16_kernels_of(w->type) : NULL;
    const int p0 = unit * GQA_UNIT_PANELS;
    const int count = min_int(gqa_matrix_panels(w) - p0, GQA_UNIT_PANELS);
    const size_t bytes = gqa_panel_bytes(w->type, w->cols);
    uint8_t *own = w->packed ? NULL : (uint8_t *)scratch + gqa_matmul_scratch(0);
    const uint8_t *panels = own ? own : w->packed + p0 * bytes;
    /* Fewer are not worth the unpacking; tiles of floats add in another order than decoding. */
    const int is_single = gqa_type_wants_q8(w->type) && !kernels->decode[2];
    const int few = is_single ? 2 * kernels->nr : GQA_DECODE_ORDER;
    int rows = min_int(w->rows - p0 * GQA_PANEL, GQA_UNIT_PANELS * GQA_PANEL);
    y += p0 * GQA_PANEL;
    if (n > few) {
        if (bf16) kernels = bf16;
        for (int p = 0; p < count && own; p++)
            gqa_pack_panel(w, p0 + p, own + p * bytes, PACK_CODES);
        multiply_unpacking(kernels, panels, bytes, count, rows, w->cols, a, n, y, ldy, scratch);
        return;
    }
    for (int p = 0; p < count; p++, rows -= GQA_PANEL, y += GQA_PANEL) {
        if (own) gqa_pack_panel(w, p0 + p, own, PACK_CODES);
        decode_panel(kernels, w, own ? own : panels + p * bytes, bytes, min_int(rows, GQA_PANEL), a,
                     n, y, ldy);
    }
}
_Static_assert(UNIT_VECTORS * sizeof(unpacked) <= GQA_MATMUL_SCRATCH,
               "scratch holds a unit's bytes");
_Static_assert(UNIT_VECTORS * sizeof(float) * FLOAT_KC * VF_LANES <= GQA_MATMUL_SCRATCH,
               "scratch holds a unit's floats");
_Static_assert(UNIT_VECTORS * sizeof(uint16_t) * BF16_KC * VF_LANES <= GQA_MATMUL_SCRATCH,
               "scratch holds a unit's bf16");
