/* session_file.c: a session as a file or in memory: the tokens, their keys and values, the logits.
 *
 *   0  "gqaSESS4"              8 bytes: 4 is the version (in 2, no keys were rotated; in 3,
 *                              q8_0 and q4_0 tiles were ordered otherwise)
 *   8  hash                    u64 of the model (weights/fingerprint.c)
 *  16  kv types, ring          2 x u32: of keys and, from bit 16 up, of values; positions
 *                              of a ring of tiles, 0 when all positions are kept
 *  24  position, flags         2 x u32: 1: logits follow, 2: scales follow, 4: rotated by the
 *                              factors for long contexts, 8: of an exact session, 16: of a
 *                              model with fast_prefill, whose bits one without does not take
 *  32  tiles, ahead            2 x u32: tiles a KV head that follow, in the layers with the
 *                              smallest ring; positions past `position` that the cache has been
 *                              written to (by tokens since rewound), where positions still needed
 *                              may have been overwritten, else 0
 *  40  file                    5 x u64: device, inode, size, mtime, ctime of the model; while they
 *                              are the same, the hash is not compared
 *  80  tokens                  position x i32
 *      logits                  vocab_size x f32 if flagged
 *      scales                  n_layers x (K, V) x f32 if flagged: powers of two by which an f16
 *                              cache holds larger values (session_internal.h)
 *      tiles                   for each layer and KV head: the K tiles in use, then the V tiles
 *  end checksum                u64: gqa_hash over header, tokens, logits and tiles, one by one
 *
 * Numbers are little-endian. A file that differs in any of this from what the session expects is
 * refused. The checksum finds accidents; anybody can compute it, so nothing is trusted because it
 * fits: what is read is checked after it was copied, so that a file that changes meanwhile can do
 * no harm. Cached values may be any, infinities and NaN too. */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "session/session_internal.h"

static const char session_magic[8] = {'g', 'q', 'a', 'S', 'E', 'S', 'S', '4'};

typedef struct session_header {
    char magic[8];
    uint64_t hash;
    uint32_t kv_types, ring, position, flags, tiles, ahead;
    gqa_file_id file;
} session_header;
_Static_assert(sizeof(session_header) == 80, "the header is stored as it is");

/* Tiles of a layer's KV head that hold something. */
static int tiles_used(const gqa_kv *kv, int position) {
    return min_int(ceil_div(position, GQA_KV_TILE), kv->n_tiles);
}

/* The same in the layers with the smallest ring. */
static uint32_t fewest_tiles(const gqa_session *s, int position) {
    int ring = gqa_cache_ring(s) / GQA_KV_TILE;
    return (uint32_t)min_int(ceil_div(position, GQA_KV_TILE), ring);
}

static uint32_t ring_of(const gqa_session *s) {
    int ring = gqa_cache_ring(s);
    return ring < s->context ? (uint32_t)ring : 0;
}

enum { HAS_LOGITS = 1, HAS_SCALES = 2, IS_LONG = 4, IS_EXACT = 8, IS_FAST = 16 };

static uint32_t kv_types_of(const gqa_session *s) {
    return (uint32_t)s->kv[0].k_type | (uint32_t)s->kv[0].v_type << 16;
}

static uint32_t flags_of(const gqa_session *s) {
    uint32_t flags = (s->has_logits ? HAS_LOGITS : 0) | (s->is_long ? IS_LONG : 0) |
                     (s->workspace->exact ? IS_EXACT : 0) |
                     (s->model->stats.fast_prefill ? IS_FAST : 0);
    for (int l = 0; l < s->model->config.n_layers; l++)
        if (s->range[l].k_scale < 1 || s->range[l].v_scale < 1) flags |= HAS_SCALES;
    return flags;
}

static session_header header_of(const gqa_session *s) {
    gqa_fingerprint model = gqa_model_fingerprint(s->model);
    session_header h = {
        .hash = model.hash,
        .file = model.file,
        .kv_types = kv_types_of(s),
        .ring = ring_of(s),
        .position = (uint32_t)s->position,
        .flags = flags_of(s),
        .tiles = fewest_tiles(s, s->position),
        .ahead = gqa_cache_first_valid(s) > 0 ? (uint32_t)(s->high_water - s->position) : 0,
    };
    memcpy(h.magic, session_magic, sizeof h.magic);
    return h;
}

static uint64_t saved_size(const gqa_session *s, const session_header *h) {
    uint64_t layers = (uint64_t)s->model->config.n_layers, tiles = 0;
    uint64_t vocab = (uint64_t)s->model->config.vocab_size;
    uint64_t logits = h->flags & HAS_LOGITS ? vocab * sizeof(float) : 0;
    uint64_t scales = h->flags & HAS_SCALES ? layers * 2 * sizeof(float) : 0;
    for (int l = 0; l < s->model->config.n_layers; l++) {
        const gqa_kv *kv = &s->kv[l];
        uint64_t bytes = (uint64_t)kv->n_kv_heads * kv->k_tile_bytes +
                         (uint64_t)kv->n_v_heads * kv->v_tile_bytes;
        tiles += (uint64_t)tiles_used(kv, (int)h->position) * bytes;
    }
    return sizeof *h + h->position * sizeof(int32_t) + logits + scales + tiles + sizeof(uint64_t);
}

/* Where a session is written to or read from: a file, or memory [size]. */
typedef struct session_stream {
    FILE *file;              /* NULL: memory */
    gqa_output output;       /* when writing a file */
    uint8_t *memory;
    uint64_t at, size;
    int failed;              /* reading: it ended too early */
    uint64_t sum;            /* checksum of what has passed */
} session_stream;

/* What follows the header, in the order of the file: written from, or read into, the session. */
static void move_contents(session_stream *stream, const gqa_session *s, const session_header *h,
                          void (*move)(session_stream *stream, void *data, size_t size)) {
    size_t vocab = s->model->vocab_size;
    move(stream, s->tokens, sizeof(int32_t) * h->position);
    if (h->flags & HAS_LOGITS) move(stream, s->logits, sizeof(float) * vocab);
    for (int l = 0; l < s->model->config.n_layers; l++) {
        if (!(h->flags & HAS_SCALES)) break;
        move(stream, &s->range[l].k_scale, sizeof(float));
        move(stream, &s->range[l].v_scale, sizeof(float));
    }
    for (int l = 0; l < s->model->config.n_layers; l++) {
        const gqa_kv *kv = &s->kv[l];
        size_t k_head = (size_t)kv->n_tiles * kv->k_tile_bytes;
        size_t v_head = (size_t)kv->n_tiles * kv->v_tile_bytes;
        size_t tiles = (size_t)tiles_used(kv, (int)h->position);
        for (size_t head = 0; head < (size_t)kv->n_kv_heads; head++) {
            move(stream, kv->k + head * k_head, tiles * kv->k_tile_bytes);
            if (head < (size_t)kv->n_v_heads)
                move(stream, kv->v + head * v_head, tiles * kv->v_tile_bytes);
        }
    }
}

/* ---- saving ---------------------------------------------------------------------------------- */

static void write_raw(session_stream *stream, const void *data, size_t size) {
    if (stream->memory) {
        memcpy(stream->memory + stream->at, data, size);
        stream->at += size;
    } else {
        gqa_output_write(&stream->output, data, size);
    }
}

static void write_hashed(session_stream *stream, void *data, size_t size) {
    stream->sum = gqa_hash(stream->sum, data, size);
    write_raw(stream, data, size);
}

static void write_session(session_stream *stream, const gqa_session *s) {
    session_header h = header_of(s);
    write_hashed(stream, &h, sizeof h);
    move_contents(stream, s, &h, write_hashed);
    uint64_t sum = stream->sum;
    write_raw(stream, &sum, sizeof sum);
}

int gqa_session_save(const gqa_session *s, const char *path, gqa_error *err) {
    if (!s || !path) return gqa_fail(err, GQA_ERR_ARGUMENT, "save: session or path is NULL");
    session_stream stream = {0};
    int status = gqa_output_open(&stream.output, path, err);
    if (status) return status;
    write_session(&stream, s);
    return gqa_output_finish(&stream.output, err);
}

int gqa_session_save_memory(const gqa_session *s, void **data, size_t *size, gqa_error *err) {
    if (!s || !data || !size)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "save: session, data or size is NULL");
    session_header h = header_of(s);
    session_stream stream = {.size = saved_size(s, &h)};
    *data = NULL;
    *size = 0;
    if (stream.size <= SIZE_MAX / 2) stream.memory = malloc((size_t)stream.size);
    if (!stream.memory)
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a saved session of %llu bytes",
                        (unsigned long long)stream.size);
    write_session(&stream, s);
    *data = stream.memory;
    *size = (size_t)stream.size;
    return 0;
}

/* ---- loading --------------------------------------------------------------------------------- */

static void read_raw(session_stream *stream, void *data, size_t size) {
    if (stream->failed || size > stream->size - stream->at) {
        stream->failed = 1;
        return;
    }
    if (stream->memory) memcpy(data, stream->memory + stream->at, size);
    else if (!gqa_input_read(stream->file, data, size)) stream->failed = 1;
    stream->at += size;
}

static void read_hashed(session_stream *stream, void *data, size_t size) {
    read_raw(stream, data, size);
    if (!stream->failed) stream->sum = gqa_hash(stream->sum, data, size);
}

/* Whether a session of that header belongs into s. */
static int check_header(const gqa_session *s, const session_header *h,
                        const session_stream *stream, const char *path, gqa_error *err) {
    gqa_fingerprint model = {h->hash, h->file};
    if (stream->failed || memcmp(h->magic, session_magic, sizeof h->magic - 1))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: not a saved session (no \"gqaSESS\" at its "
                        "start)", path);
    if (h->magic[7] != session_magic[7])
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved session of version %d, expected %d", path,
                        h->magic[7] - '0', session_magic[7] - '0');
    if (!gqa_same_source(&model, s->model) && h->hash != gqa_model_fingerprint(s->model).hash)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved from another model", path);
    const gqa_kv *kv = &s->kv[0];
    if (h->kv_types != kv_types_of(s)) {
        char got[24], expected[24];
        gqa_kv_name(h->kv_types & 0xFFFF, (int)(h->kv_types >> 16), got);
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved with KV cache type %s, expected %s", path,
                        got, gqa_kv_name(kv->k_type, kv->v_type, expected));
    }
    if (!(h->flags & IS_LONG) != !s->is_long)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved with a context on the other side of %d "
                        "positions: RoPE differs", path, s->model->config.rope_orig_context);
    if (!(h->flags & IS_EXACT) != !s->workspace->exact)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved by a session that is %sexact, unlike this "
                        "one", path, h->flags & IS_EXACT ? "" : "not ");
    if (h->flags & IS_FAST && !s->model->stats.fast_prefill)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: saved with fast_prefill, which this model is "
                        "without", path);
    if (h->position > (uint32_t)s->context)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: holds %u positions, this session has %d", path,
                        h->position, s->context);
    int max_ahead = s->model->config.window > 0 ? gqa_cache_ring(s) : 0;
    int has_f16 = kv->k_type == GQA_TYPE_F16 || kv->v_type == GQA_TYPE_F16;
    uint32_t allowed = IS_LONG | IS_EXACT | IS_FAST | (h->position > 0 ? HAS_LOGITS : 0) |
                       (has_f16 ? HAS_SCALES : 0);
    if (h->ring != ring_of(s))
        return gqa_fail(err, GQA_ERR_FORMAT,
                        "%s: layers with a window have caches of %u positions, this session's %u "
                        "(0: of the context): expected the same context and batch size",
                        path, h->ring, ring_of(s));
    if ((h->flags & ~allowed) || h->tiles != fewest_tiles(s, (int)h->position) ||
        h->ahead > (uint32_t)max_ahead)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: damaged header", path);
    if (stream->size != saved_size(s, h))
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: expected %llu bytes, got %llu", path,
                        (unsigned long long)saved_size(s, h), (unsigned long long)stream->size);
    return 0;
}

/* Whether the scales are powers of two of at most 1. */
static int check_scales(const gqa_session *s, const char *path, gqa_error *err) {
    for (int l = 0; l < s->model->config.n_layers; l++) {
        const float scales[2] = {s->range[l].k_scale, s->range[l].v_scale};
        for (int i = 0; i < 2; i++) {
            union { float value; uint32_t bits; } scale = {scales[i]};
            uint32_t exponent = scale.bits >> 23;
            if (exponent >= 1 && exponent <= 127 && !(scale.bits & 0x7FFFFF)) continue;
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: layer %d has the scale %g", path, l,
                            (double)scale.value);
        }
    }
    return 0;
}

static void reset_scales(gqa_session *s) {
    for (int l = 0; l < s->model->config.n_layers; l++)
        s->range[l].k_scale = s->range[l].v_scale = 1;
}

/* Everything after the header, into s, and what is wrong with it. */
static int read_contents(session_stream *stream, const gqa_session *s, const session_header *h,
                         const char *path, gqa_error *err) {
    uint64_t sum = 0;
    move_contents(stream, s, h, read_hashed);
    read_raw(stream, &sum, sizeof sum);
    if (stream->failed) return gqa_fail(err, GQA_ERR_FORMAT, "%s: truncated", path);
    for (uint32_t i = 0; i < h->position; i++)
        if (s->tokens[i] < 0 || s->tokens[i] >= s->model->config.vocab_size)
            return gqa_fail(err, GQA_ERR_FORMAT, "%s: token %u is not in the vocabulary", path, i);
    if (sum != stream->sum)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: damaged (wrong checksum)", path);
    return check_scales(s, path, err);
}

/* Reads into s, which stays as it was where the header is refused, and is empty where what follows
 * is damaged. */
static int read_session(session_stream *stream, gqa_session *s, const char *path, gqa_error *err) {
    session_header h = {0};
    read_hashed(stream, &h, sizeof h);
    int status = check_header(s, &h, stream, path, err);
    if (status) return status;
    gqa_session_rewind(s, 0, NULL);
    s->has_logits = 0;
    reset_scales(s);
    status = read_contents(stream, s, &h, path, err);
    if (status) {
        reset_scales(s);
        return status;
    }
    s->position = (int)h.position;
    s->high_water = (int)(h.position + h.ahead);
    s->has_logits = (h.flags & HAS_LOGITS) != 0;
    return 0;
}

int gqa_session_load(gqa_session *s, const char *path, gqa_error *err) {
    session_stream stream = {0};
    if (!s || !path) return gqa_fail(err, GQA_ERR_ARGUMENT, "load: session or path is NULL");
    int status = gqa_input_open(&stream.file, &stream.size, path, err);
    if (status) return status;
    status = read_session(&stream, s, path, err);
    fclose(stream.file);
    return status;
}

int gqa_session_load_memory(gqa_session *s, const void *data, size_t size, gqa_error *err) {
    session_stream stream = {.memory = (uint8_t *)data, .size = size};
    if (!s || !data) return gqa_fail(err, GQA_ERR_ARGUMENT, "load: session or data is NULL");
    return read_session(&stream, s, "memory", err);
}
