/* cache.c: the KV cache of a session: its tiles, which positions they hold, copying them. */
#include <string.h>

#include "session_internal.h"

static int n_tiles(const gqa_session *s, int window) {
    /* A tile more, so that a copy of whole tiles into another ring holds a whole window; and a few
     * tokens can be taken back. */
    int positions = s->context, back = max_int(s->batch, 64);
    if (window > 0) positions = min_int(positions, window + back + GQA_KV_TILE - 1);
    return ceil_div(positions, GQA_KV_TILE);
}

/* Numbers of a key that all heads share; 0: none. */
static int shared_dim(const gqa_config *c) { return c->latent_dim || c->tied_kv ? c->rope_dim : 0; }

/* The layers' caches, with their tiles at base; base NULL only adds up. Returns nonzero when the
 * bytes overflow. */
static int lay_out_cache(gqa_session *s, int k_type, int v_type, uint8_t *base, uint64_t *total) {
    const gqa_config *c = &s->model->config;
    *total = 0;
    for (int l = 0; l < c->n_layers; l++) {
        gqa_layer_config of = s->model->layers[l].config;
        gqa_kv *kv = &s->kv[l];
        *kv = (gqa_kv){
            .k_type = k_type,
            .v_type = v_type,
            .n_kv_heads = of.kv_layer == l ? of.n_kv_heads : 0, /* else it has no cache */
            .head_dim = of.head_dim,
            .value_dim = c->latent_dim ? c->latent_dim : of.head_dim,
            .shared_dim = shared_dim(c),
            .n_tiles = n_tiles(s, of.window),
            .softcap = c->attention_softcap,
        };
        kv->n_v_heads = kv->shared_dim ? min_int(kv->n_kv_heads, 1) : kv->n_kv_heads;
        kv->k_tile_bytes = gqa_kv_k_tile_bytes(k_type, kv->value_dim);
        kv->v_tile_bytes = kv->shared_dim ? gqa_kv_k_tile_bytes(k_type, kv->shared_dim)
                                          : gqa_kv_v_tile_bytes(v_type, kv->value_dim);
        uint64_t tiles = (uint64_t)kv->n_tiles, k_bytes, v_bytes;
        if (gqa_mul_size(tiles * (uint64_t)kv->n_kv_heads, kv->k_tile_bytes, &k_bytes) ||
            gqa_mul_size(tiles * (uint64_t)kv->n_v_heads, kv->v_tile_bytes, &v_bytes))
            return 1;
        if (base) {
            kv->k = base + *total;
            kv->v = kv->k + (size_t)k_bytes;
        }
        if (gqa_add_size(*total, k_bytes, total) || gqa_add_size(*total, v_bytes, total)) return 1;
        s->range[l].k_scale = s->range[l].v_scale = 1;
    }
    return *total > SIZE_MAX / 2;
}

int gqa_cache_new(gqa_session *s, int k_type, int v_type, gqa_error *err) {
    uint64_t total;
    char name[24];
    if (k_type != v_type && shared_dim(&s->model->config))
        return gqa_fail(err, GQA_ERR_UNSUPPORTED, "KV cache type %s: keys are values here too, of "
                        "one type", gqa_kv_name(k_type, v_type, name));
    if (lay_out_cache(s, k_type, v_type, NULL, &total))
        return gqa_fail(err, GQA_ERR_MEMORY,
                        "a KV cache of %d positions does not fit in the address space",
                        s->context);
    s->cache = gqa_pages_alloc(total, 0);
    if (!s->cache)
        return gqa_fail(err, GQA_ERR_MEMORY,
                        "no memory for a KV cache of %llu bytes (%d positions); a smaller context "
                        "needs less",
                        (unsigned long long)total, s->context);
    s->cache_bytes = total;
    lay_out_cache(s, k_type, v_type, s->cache, &total);
    return 0;
}

int gqa_cache_ring(const gqa_session *s) {
    int tiles = s->kv[0].n_tiles;
    for (int l = 1; l < s->model->config.n_layers; l++) tiles = min_int(tiles, s->kv[l].n_tiles);
    return tiles * GQA_KV_TILE;
}

int gqa_cache_first_valid(const gqa_session *s) {
    return max_int(0, s->high_water - gqa_cache_ring(s));
}

int gqa_cache_first_needed(const gqa_session *s, int position) {
    int window = s->model->config.window;
    return window > 0 && position > window ? position - window + 1 : 0;
}

static void copy_tile(gqa_kv *to, const gqa_kv *from, int kv_head, int tile) {
    size_t dst = gqa_kv_tile_index(to, kv_head, tile), src = gqa_kv_tile_index(from, kv_head, tile);
    memcpy(to->k + dst * to->k_tile_bytes, from->k + src * from->k_tile_bytes, to->k_tile_bytes);
    if (kv_head >= to->n_v_heads) return;
    memcpy(to->v + dst * to->v_tile_bytes, from->v + src * from->v_tile_bytes, to->v_tile_bytes);
}

void gqa_cache_copy(gqa_session *to, const gqa_session *from, int first, int end) {
    for (int l = 0; l < to->model->config.n_layers; l++) {
        to->range[l].k_scale = from->range[l].k_scale;
        to->range[l].v_scale = from->range[l].v_scale;
    }
    if (first >= end) return;
    for (int l = 0; l < to->model->config.n_layers; l++) {
        int begin = to->model->layers[l].config.window ? first / GQA_KV_TILE : 0;
        for (int h = 0; h < to->kv[l].n_kv_heads; h++)
            for (int tile = begin; tile <= (end - 1) / GQA_KV_TILE; tile++)
                copy_tile(&to->kv[l], &from->kv[l], h, tile);
    }
}

/* Multiplies n f16 values by a power of two. Zeros stay untouched, and so do pages never used. */
static void scale_halves(uint8_t *data, size_t n, float factor) {
    for (size_t i = 0; i < n; i++, data += 2) {
        uint16_t half;
        memcpy(&half, data, 2);
        if (!half) continue;
        half = gqa_f32_to_f16(gqa_f16_to_f32(half) * factor);
        memcpy(data, &half, 2);
    }
}

/* Fits one kind of a layer's tiles [bytes] to the largest value seen. */
static int fit_scale(float *scale, atomic_uint *max, uint8_t *tiles, size_t bytes) {
    union { unsigned bits; float value; } largest = {atomic_exchange(max, 0)};
    if (!largest.bits) return 0;
    float fitting = *scale;
    while (largest.value * fitting > 32768) fitting /= 2;  /* leaves as much room again */
    scale_halves(tiles, bytes / 2, fitting / *scale);
    *scale = fitting;
    return 1;
}

int gqa_cache_forget_large(gqa_session *s) {
    unsigned found = 0;
    for (int l = 0; l < s->model->config.n_layers; l++)
        found |= atomic_exchange(&s->range[l].k_max, 0) | atomic_exchange(&s->range[l].v_max, 0);
    return found != 0;
}

int gqa_cache_rescale(gqa_session *s) {
    int found = 0;
    for (int l = 0; l < s->model->config.n_layers; l++) {
        gqa_kv *kv = &s->kv[l];
        gqa_kv_range *r = &s->range[l];
        size_t k_bytes = gqa_kv_tile_index(kv, kv->n_kv_heads, 0) * kv->k_tile_bytes;
        size_t v_bytes = gqa_kv_tile_index(kv, kv->n_v_heads, 0) * kv->v_tile_bytes;
        if (kv->shared_dim) k_bytes += v_bytes; /* of one scale; v follows k */
        found |= fit_scale(&r->k_scale, &r->k_max, kv->k, k_bytes);
        found |= fit_scale(&r->v_scale, &r->v_max, kv->v, v_bytes);
    }
    return found;
}
