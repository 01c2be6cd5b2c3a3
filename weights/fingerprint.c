/* fingerprint.c: a hash that tells models apart, for files that belong to one. */
#include <string.h>

#include "../base/hash.h"
#include "../formats/gguf.h"
#include "model_internal.h"

/* Whether a metadata key may change the numbers: any may but those known not to. */
static int key_matters(gqa_bytes key) {
    if (bytes_equal(key, "general.architecture")) return 1;
    return !bytes_start_with(key, "general.") && !bytes_start_with(key, "tokenizer.") &&
           !bytes_start_with(key, "gqa.");
}

static uint64_t hash_entry(uint64_t h, const gguf_entry *e) {
    const uint8_t *end = e->array;
    for (uint64_t i = 0; e->array_type == GGUF_STRING && i < e->count; i++) gguf_next_string(&end);
    size_t bytes = e->array ? (size_t)(end - e->array) : 0;
    if (!bytes) bytes = (size_t)e->count * gguf_scalar_size(e->array_type);
    h = gqa_hash(h, e->key.data, e->key.size);
    h = gqa_hash(h, &e->type, sizeof e->type);
    h = gqa_hash(h, &e->i, sizeof e->i);
    h = gqa_hash(h, &e->f, sizeof e->f);
    h = gqa_hash(h, e->string.data, e->string.size);
    return gqa_hash_lanes(h, e->array, bytes);
}

static uint64_t hash_model(const gqa_checkpoint *c) {
    uint64_t h = 0xCBF29CE484222325u;
    for (int i = 0; i < c->n_tensors; i++) {
        const gqa_tensor *t = c->by_name[i];
        h = gqa_hash(h, t->name, strlen(t->name));
        h = gqa_hash(h, &t->type, sizeof t->type);
        h = gqa_hash(h, t->dims, sizeof t->dims);
        h = gqa_hash_lanes(h, t->data, (size_t)t->size);
    }
    for (int i = 0; i < c->n_meta; i++)
        if (key_matters(c->meta[i].key)) h = hash_entry(h, &c->meta[i]);
    if (!c->n_meta) h = gqa_hash(h, &c->config, sizeof c->config); /* llama2.c, random */
    return h;
}

gqa_fingerprint gqa_model_fingerprint(const gqa_model *m) {
    uint64_t hash = atomic_load(&m->hash);
    if (!hash) { /* two threads may both compute it: to the same value */
        hash = hash_model(&m->file);
        atomic_store(&((gqa_model *)m)->hash, hash);
    }
    return (gqa_fingerprint){hash, m->map.id};
}

int gqa_same_source(const gqa_fingerprint *saved, const gqa_model *m) {
    return m->map.data && !memcmp(&saved->file, &m->map.id, sizeof saved->file);
}
