/* tiny_trainer.h: what the tests of training share: a small model, the same model as the reference
 * sees it, and a text to learn from. */
#ifndef GQA_TEST_TINY_TRAINER_H
#define GQA_TEST_TINY_TRAINER_H

#include "test.h"

#include <unistd.h>

#include "../formats/formats.h"
#include "../train/train_internal.h"
#include "reference.h"

enum { TINY_LAYERS = 2, TINY_DIM = 24, TINY_VOCAB = 29, TINY_LENGTH = 13 };

static inline gqa_config tiny_config(int kv_heads, int tied) {
    return (gqa_config){
        .dim = TINY_DIM, .n_layers = TINY_LAYERS, .n_heads = 4, .n_kv_heads = kv_heads,
        .head_dim = 10, .ffn_dim = 37, .vocab_size = TINY_VOCAB, .context_length = TINY_LENGTH,
        .tied_embeddings = tied,
    };
}

/* Multi-head latent attention: a cached row of 32 + 6, keys of 7 + 6 and values of 16 a head. */
static inline gqa_config tiny_latent(int tied) {
    gqa_config c = tiny_config(1, tied);
    c.latent_dim = 32;
    c.value_dim = 16;
    c.rope_dim = 6;
    c.q_nope_dim = 7;
    c.head_dim = c.latent_dim + c.rope_dim;
    return c;
}

/* Grouped-tied attention: two KV heads. */
static inline gqa_config tiny_tied(int tied) {
    gqa_config c = tiny_config(2, tied);
    c.tied_kv = 1;
    c.head_dim = 16;
    c.rope_dim = 8;
    return c;
}

/* Ends the program when there is none. */
static inline gqa_trainer *tiny_trainer(const gqa_config *c, const gqa_train_options *o) {
    gqa_error err = {0};
    gqa_trainer *t = gqa_trainer_new(c, o, &err);
    if (!CHECK(t, "%s", err.message)) exit(test_end());
    return t;
}

/* Larger weights than at the start of training, norms away from 1. */
static inline void randomise(gqa_trainer *t, uint64_t seed) {
    const char *name;
    for (int i = 0; (name = gqa_trainer_tensor_name(t, i)); i++) {
        size_t n;
        float *w = gqa_trainer_weights(t, name, &n);
        int is_norm = strstr(name, "norm") != NULL;
        for (size_t k = 0; k < n; k++) {
            float r = test_random(&seed);
            w[k] = is_norm ? 1 + 0.3f * r : 0.4f * r;
        }
    }
}

static inline float *layer_weights(gqa_trainer *t, int layer, const char *suffix) {
    char name[64];
    snprintf(name, sizeof name, "blk.%d.%s.weight", layer, suffix);
    return gqa_trainer_weights(t, name, NULL);
}

/* The trainer's weights as the reference sees them: the same memory. */
static inline void refer(gqa_trainer *t, ref_model *m, ref_layer layers[TINY_LAYERS]) {
    const gqa_config *c = gqa_trainer_config(t);
    const int dim = c->dim, ffn = c->ffn_dim;
    const int kv = c->n_kv_heads * c->head_dim, latent = c->latent_dim, nope = c->q_nope_dim;
    const int q = c->n_heads * (latent ? nope + c->rope_dim : c->head_dim);
    const int o = c->n_heads * (latent ? c->value_dim : c->head_dim);
    const char *k_name = latent ? "attn_kv_a_mqa" : c->tied_kv ? "attn_kv" : "attn_k";
    const char *v_name = c->tied_kv ? "attn_k_rope" : "attn_v";
    const float *classifier = gqa_trainer_weights(t, "output.weight", NULL);
    *m = (ref_model){
        .dim = dim, .n_layers = c->n_layers, .n_heads = c->n_heads, .n_kv_heads = c->n_kv_heads,
        .head_dim = latent ? nope + c->rope_dim : c->head_dim, .ffn_dim = ffn,
        .vocab = c->vocab_size, .latent = latent, .q_nope = nope, .value = c->value_dim,
        .tied = c->tied_kv, .score_scale = latent ? 1 / sqrt(nope + c->rope_dim) : 0,
        .rope_dim = c->rope_dim, .rope_theta = (double)c->rope_theta,
        .norm_eps = (double)c->norm_eps, .factor = 1, .attn_factor = 1, .layers = layers,
    };
    for (int l = 0; l < c->n_layers; l++)
        layers[l] = (ref_layer){
            .attn_norm = layer_weights(t, l, "attn_norm"),
            .wq = {layer_weights(t, l, "attn_q"), q, dim, 0},
            .wk = {layer_weights(t, l, k_name), kv, dim, 0},
            .wv = {layer_weights(t, l, v_name), c->tied_kv ? c->rope_dim : kv, dim, 0},
            .latent_norm = layer_weights(t, l, "attn_kv_a_norm"),
            .wk_b = {layer_weights(t, l, "attn_k_b"), latent, nope, 0},
            .wv_b = {layer_weights(t, l, "attn_v_b"), c->value_dim, latent, 0},
            .wo = {layer_weights(t, l, "attn_output"), dim, o, 0},
            .ffn_norm = layer_weights(t, l, "ffn_norm"),
            .w_gate = {layer_weights(t, l, "ffn_gate"), ffn, dim, 0},
            .w_up = {layer_weights(t, l, "ffn_up"), ffn, dim, 0},
            .w_down = {layer_weights(t, l, "ffn_down"), dim, ffn, 0},
        };
    m->embedding = gqa_trainer_weights(t, "token_embd.weight", NULL);
    m->output_norm = gqa_trainer_weights(t, "output_norm.weight", NULL);
    m->classifier = (ref_matrix){classifier ? classifier : m->embedding, c->vocab_size, dim, 0};
}

static inline double log_sum_exp(const double *z, int n) {
    double max = z[0], sum = 0;
    for (int i = 1; i < n; i++) max = fmax(max, z[i]);
    for (int i = 0; i < n; i++) sum += exp(z[i] - max);
    return max + log(sum);
}

/* KL(q || p) of logits. */
static inline double kl_divergence(const double *q, const double *p, int n) {
    double lse_q = log_sum_exp(q, n), lse_p = log_sum_exp(p, n), kl = 0;
    for (int i = 0; i < n; i++) kl += exp(q[i] - lse_q) * ((q[i] - lse_q) - (p[i] - lse_p));
    return kl;
}

/* mean [length, vocab] = the mean of the logits of n teachers: those of the geometric mean of their
 * probabilities. */
static inline void teach(const ref_model *teachers, int n, const int32_t *in, int length,
                         double *logits, double *mean) {
    int vocab = n ? teachers->vocab : 0;
    for (int i = 0; i < length * vocab; i++) mean[i] = 0;
    for (int k = 0; k < n; k++) {
        ref_forward(&teachers[k], in, length, logits);
        for (int i = 0; i < length * vocab; i++) mean[i] += logits[i] / n;
    }
}

/* Mean loss over sequences tokens [n, length + 1], by the reference. */
static inline double reference_loss(const ref_model *m, const ref_model *teachers, int n_teachers,
                                    double distill, const int32_t *tokens, int n, int length) {
    int vocab = m->vocab;
    double *logits = malloc(sizeof *logits * (size_t)(length * vocab));
    double *taught = malloc(sizeof *taught * (size_t)(length * vocab));
    double loss = 0;
    for (int s = 0; s < n; s++) {
        const int32_t *in = tokens + s * (length + 1);
        ref_model masked = *m;
        if (m->drop) masked.drop += s * (1 + 2 * m->n_layers) * length * m->dim;
        teach(teachers, n_teachers, in, length, logits, taught);
        ref_forward(&masked, in, length, logits);
        for (int t = 0; t < length; t++) {
            const double *z = logits + t * vocab;
            double own = log_sum_exp(z, vocab) - z[in[t + 1]];
            double kl = n_teachers ? kl_divergence(taught + t * vocab, z, vocab) : 0;
            loss += n_teachers ? (1 - distill) * own + distill * kl : own;
        }
    }
    free(logits);
    free(taught);
    return loss / (n * length);
}

/* A text with something to learn: a cycle of tokens. */
static inline gqa_dataset cycle(int n) {
    gqa_dataset d = {.n_tokens = (size_t)n, .n_bytes = (uint64_t)n, .n_documents = 1};
    d.tokens = malloc(sizeof *d.tokens * d.n_tokens);
    for (int i = 0; i < n; i++) d.tokens[i] = i * i % 11;
    return d;
}

/* One of two static buffers. */
static inline const char *scratch_path(const char *name) {
    static char paths[2][TEST_PATH];
    static int next;
    char *path = paths[next++ & 1];
    test_path(path, name);
    return path;
}

/* A model file in memory. */
typedef struct mapped_file {
    gqa_map map;
    gqa_checkpoint c;
} mapped_file;

static inline int file_open(mapped_file *f, const char *path) {
    gqa_error err = {0};
    *f = (mapped_file){0};
    int ok = gqa_map_open(&f->map, path, &err) == 0;
    ok = ok && gqa_checkpoint_read(&f->c, f->map.data, f->map.size, path, &err) == 0;
    return CHECK(ok, "%s", err.message);
}

static inline void file_close(mapped_file *f) {
    gqa_checkpoint_free(&f->c);
    gqa_map_close(&f->map);
}

#endif
