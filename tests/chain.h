/* chain.h: a model that says its vocabulary in a known order: one layer whose matrices are zero,
 * an embedding of unit vectors, and a classifier that maps the vector of each token to the next.
 * The first three tokens are <unk>, <s> (BOS) and </s> (the end of a text); spaces are escaped and
 * a space is put before a text, as in SentencePiece. */
#ifndef GQA_TEST_CHAIN_H
#define GQA_TEST_CHAIN_H

#include "test.h"

#include "../formats/gguf.h"

enum { CHAIN_DIM = 32, CHAIN_CONTEXT = 64 };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 }; /* types of tokens, GGUF's numbers */

typedef struct chain_token {
    const char *text;
    int32_t type;
} chain_token;

typedef struct chain {
    gqa_model *model;
    uint8_t *image;
} chain;

static void chain_put_tokens(gguf_writer *w, const chain_token *tokens, int n) {
    gqa_bytes names[CHAIN_DIM];
    float scores[CHAIN_DIM];
    int32_t types[CHAIN_DIM];
    for (int i = 0; i < n; i++) {
        names[i] = (gqa_bytes){tokens[i].text, strlen(tokens[i].text)};
        scores[i] = (float)-i;
        types[i] = tokens[i].type;
    }
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(w, "tokenizer.ggml.tokens", names, (uint64_t)n);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, (uint64_t)n);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, (uint64_t)n);
    gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_U32, 0);
    gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 1);
    gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, 2);
}

static void chain_put_weights(gguf_writer *w, const int *next, int n) {
    float zeros[CHAIN_DIM * CHAIN_DIM] = {0}, table[CHAIN_DIM * CHAIN_DIM] = {0};
    float head[CHAIN_DIM * CHAIN_DIM] = {0}, ones[CHAIN_DIM];
    const struct {
        const char *name;
        int rows;
        const float *data;
    } tensors[] = {
        {"token_embd.weight", n, table},
        {"output.weight", n, head},
        {"output_norm.weight", 0, ones},
        {"blk.0.attn_norm.weight", 0, ones},
        {"blk.0.ffn_norm.weight", 0, ones},
        {"blk.0.attn_q.weight", CHAIN_DIM, zeros},
        {"blk.0.attn_k.weight", CHAIN_DIM, zeros},
        {"blk.0.attn_v.weight", CHAIN_DIM, zeros},
        {"blk.0.attn_output.weight", CHAIN_DIM, zeros},
        {"blk.0.ffn_gate.weight", CHAIN_DIM, zeros},
        {"blk.0.ffn_up.weight", CHAIN_DIM, zeros},
        {"blk.0.ffn_down.weight", CHAIN_DIM, zeros},
    };
    enum { N_TENSORS = sizeof tensors / sizeof *tensors };
    for (int i = 0; i < CHAIN_DIM; i++) ones[i] = 1;
    for (int i = 0; i < n; i++) table[i * CHAIN_DIM + i] = head[next[i] * CHAIN_DIM + i] = 1;
    for (int i = 0; i < N_TENSORS; i++) {
        uint64_t dims[2] = {CHAIN_DIM, (uint64_t)tensors[i].rows};
        gguf_declare_tensor(w, tensors[i].name, GQA_TYPE_F32, tensors[i].rows ? 2 : 1, dims);
    }
    for (int i = 0; i < N_TENSORS; i++) {
        size_t rows = tensors[i].rows ? (size_t)tensors[i].rows : 1;
        gguf_write_tensor_data(w, tensors[i].data, sizeof(float) * CHAIN_DIM * rows);
    }
}

/* next[i] follows token i, of n <= CHAIN_DIM; the file bans the token `banned`, unless it is -1.
 * c.model is NULL when the model is refused. */
static chain chain_make(const chain_token *tokens, const int *next, int n, int32_t banned,
                        gqa_error *err) {
    chain c = {0};
    size_t size = 0;
    gguf_writer *w = gguf_writer_new(NULL, err);
    gqa_config config = {.architecture = "llama", .dim = CHAIN_DIM, .n_layers = 1, .n_heads = 1,
                         .n_kv_heads = 1, .head_dim = CHAIN_DIM, .ffn_dim = CHAIN_DIM,
                         .vocab_size = n, .context_length = CHAIN_CONTEXT, .rope_dim = CHAIN_DIM,
                         .rope_theta = 10000, .norm_eps = 1e-5f};
    gguf_put_config(w, &config);
    chain_put_tokens(w, tokens, n);
    if (banned >= 0) gguf_put_array(w, "tokenizer.ggml.suppress_tokens", GGUF_I32, &banned, 1);
    chain_put_weights(w, next, n);
    if (gguf_finish_memory(w, &c.image, &size, err) == 0)
        c.model = gqa_model_from_memory(c.image, size, NULL, err);
    return c;
}

static chain chain_open(const chain_token *tokens, const int *next, int n) {
    gqa_error err = {0};
    chain c = chain_make(tokens, next, n, -1, &err);
    if (!c.model) {
        CHECK(0, "%s", err.message);
        exit(test_end());
    }
    return c;
}

static void chain_close(chain *c) {
    gqa_model_close(c->model);
    free(c->image);
}

#endif
