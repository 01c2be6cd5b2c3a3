/* session_file.c: a session as a file: the tokens, their keys and values, and the logits.
 *
 *   0  "gqaSESS1"              8 bytes
 *   8  fingerprint             u64: shape, names and samples of the weights of the model it belongs to
 *  16  kv type, window         2 x u32
 *  24  position, has_logits    2 x u32
 *  32  tiles, ahead            2 x u32: tiles a KV head that follow; positions past `position` that a ring has been written to
 *                              (by tokens since rewound: what stood in their slots before is gone), 0 without a window
 *  40  tokens                  position x i32
 *      logits                  vocab_size x f32 if has_logits
 *      tiles                   for each layer, for each KV head: the first `tiles` K tiles, then V tiles
 *  end checksum                u64: gqa_hash over header, tokens, logits and tiles, one after the other
 *
 * Numbers are little-endian. A file that differs in any of this from what the session expects is refused. The checksum finds
 * accidents; anybody can compute it, so nothing is trusted because it fits. Cached values may be any, infinities and NaN too. */
#include <string.h>

#include "base/hash.h"
#include "session/session_internal.h"

static const char magic[8] = {'g', 'q', 'a', 'S', 'E', 'S', 'S', '1'};
enum { HEADER = 40 };

static uint32_t tiles_used(const gqa_session *s, int position) {
    int tiles = (position + GQA_KV_TILE - 1) / GQA_KV_TILE;
    return (uint32_t)(tiles < s->kv[0].n_tiles ? tiles : s->kv[0].n_tiles);
}

static uint32_t ring_of(const gqa_session *s) {  /* 0 when the cache holds every position */
    int ring = gqa_session_ring(s);
    return ring < s->context ? (uint32_t)ring : 0;
}

/* Positions past the present one that overwrote older ones in a ring. */
static uint32_t written_ahead(const gqa_session *s) { return ring_of(s) ? (uint32_t)(s->high_water - s->position) : 0; }

static void make_header(const gqa_session *s, uint8_t h[HEADER]) {
    uint64_t print = gqa_model_fingerprint(s->model);
    uint32_t words[6] = {(uint32_t)s->kv[0].type, ring_of(s), (uint32_t)s->position, (uint32_t)s->has_logits,
                         tiles_used(s, s->position), written_ahead(s)};
    memcpy(h, magic, 8);
    memcpy(h + 8, &print, 8);
    memcpy(h + 16, words, sizeof words);
}

/* ---- saving ------------------------------------------------------------------------------------------------------ */

typedef struct sink {
    gqa_output file;
    uint64_t sum;
} sink;

static void put(sink *out, const void *data, size_t size) {
    out->sum = gqa_hash(out->sum, data, size);
    gqa_output_write(&out->file, data, size);
}

static void put_session(sink *out, const gqa_session *s) {
    uint8_t header[HEADER];
    make_header(s, header);
    put(out, header, sizeof header);
    put(out, s->tokens, sizeof(int32_t) * (size_t)s->position);
    if (s->has_logits) put(out, s->logits, sizeof(float) * (size_t)s->model->config.vocab_size);
    size_t tiles = tiles_used(s, s->position);
    for (int l = 0; l < s->model->config.n_layers; l++)
        for (int h = 0; h < s->kv[l].n_kv_heads; h++) {
            const gqa_kv *kv = &s->kv[l];
            size_t at = (size_t)h * (size_t)kv->n_tiles;
            put(out, kv->k + at * kv->k_tile_bytes, tiles * kv->k_tile_bytes);
            put(out, kv->v + at * kv->v_tile_bytes, tiles * kv->v_tile_bytes);
        }
    uint64_t sum = out->sum;
    gqa_output_write(&out->file, &sum, sizeof sum);
}

int gqa_session_save(const gqa_session *s, const char *path, gqa_error *err) {
    sink out = {.sum = 0};
    int status = gqa_output_open(&out.file, path, err);
    if (status) return status;
    put_session(&out, s);
    return gqa_output_finish(&out.file, err);
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

static uint32_t word_at(const uint8_t *data, size_t at) {
    uint32_t v;
    memcpy(&v, data + at, sizeof v);
    return v;
}

/* The checksum, taken over the same parts as when saving. */
static int sum_fits(const gqa_map *f, size_t tokens, size_t logits) {
    uint64_t stored, sum = gqa_hash(0, f->data, HEADER);
    size_t at = HEADER, end = f->size - 8;
    sum = gqa_hash(sum, f->data + at, tokens);
    sum = gqa_hash(sum, f->data + at + tokens, logits);
    at += tokens + logits;
    sum = gqa_hash(sum, f->data + at, end - at);
    memcpy(&stored, f->data + end, 8);
    return stored == sum;
}

/* Everything that can be wrong, before anything is copied. */
static int check_file(const gqa_session *s, const gqa_map *f, const char *path, gqa_error *err) {
    uint64_t print = gqa_model_fingerprint(s->model), found;
    if (f->size < HEADER + 8 || memcmp(f->data, magic, 8))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: not a saved session (no \"gqaSESS1\" at its start)", path);
    memcpy(&found, f->data + 8, 8);
    if (found != print) return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved from another model", path);
    uint32_t type = word_at(f->data, 16), ring = word_at(f->data, 20), position = word_at(f->data, 24);
    uint32_t has_logits = word_at(f->data, 28), tiles = word_at(f->data, 32), ahead = word_at(f->data, 36);
    if (type != (uint32_t)s->kv[0].type)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved with KV cache type %s, this session has %s", path,
                        gqa_type_name((int)type) ? gqa_type_name((int)type) : "unknown", gqa_type_name(s->kv[0].type));
    if (position > (uint32_t)s->context)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: holds %u positions, this session has %d", path, position, s->context);
    if (ring != ring_of(s) || has_logits > (position > 0) || tiles != tiles_used(s, (int)position) || ahead > ring)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: damaged header, or another window or batch size", path);
    const gqa_kv *kv = &s->kv[0];
    uint64_t expected = HEADER + 8 + (uint64_t)position * 4 + (has_logits ? (uint64_t)s->model->config.vocab_size * 4 : 0) +
                        (uint64_t)s->model->config.n_layers * (uint64_t)kv->n_kv_heads * tiles * (kv->k_tile_bytes + kv->v_tile_bytes);
    if (f->size != expected)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: expected %llu bytes, got %zu", path, (unsigned long long)expected, f->size);
    for (uint32_t i = 0; i < position; i++)
        if (word_at(f->data, HEADER + (size_t)i * 4) >= (uint32_t)s->model->config.vocab_size)
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: token %u is not in the vocabulary", path, i);
    if (!sum_fits(f, (size_t)position * 4, has_logits ? (size_t)s->model->config.vocab_size * 4 : 0))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: damaged (the checksum does not fit)", path);
    return 0;
}

static void copy_session(gqa_session *s, const uint8_t *p) {
    uint32_t position = word_at(p, 24), has_logits = word_at(p, 28), ahead = word_at(p, 36);
    size_t tiles = word_at(p, 32), tokens = sizeof(int32_t) * position, logits = sizeof(float) * (size_t)s->model->config.vocab_size;
    p += HEADER;
    memcpy(s->tokens, p, tokens);
    p += tokens;
    if (has_logits) memcpy(s->logits, p, logits), p += logits;
    for (int l = 0; l < s->model->config.n_layers; l++)
        for (int h = 0; h < s->kv[l].n_kv_heads; h++) {
            const gqa_kv *kv = &s->kv[l];
            size_t at = (size_t)h * (size_t)kv->n_tiles, k = tiles * kv->k_tile_bytes, v = tiles * kv->v_tile_bytes;
            memcpy(kv->k + at * kv->k_tile_bytes, p, k);
            memcpy(kv->v + at * kv->v_tile_bytes, p + k, v);
            p += k + v;
        }
    s->position = (int)position;
    s->high_water = (int)(position + ahead);
    s->has_logits = (int)has_logits;
}

int gqa_session_load(gqa_session *s, const char *path, gqa_error *err) {
    gqa_map file = {0};
    gqa_session_rewind(s, 0, NULL);
    s->has_logits = 0;
    int status = gqa_map_open(&file, path, err);
    if (status) return status;
    status = check_file(s, &file, path, err);
    if (!status) copy_session(s, file.data);
    gqa_map_close(&file);
    return status;
}
