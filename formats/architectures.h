/* architectures.h: the supported architectures, one row each. */
#ifndef GQA_ARCHITECTURES_H
#define GQA_ARCHITECTURES_H

#include "checkpoint.h"

/* Steps that only some architectures have, and keys that only some architectures read. */
enum {
    ARCH_ROPE_HALF = 1,          /* RoPE pairs (i, i + rope_dim / 2); else (2i, 2i + 1) */
    ARCH_GELU = 2,
    ARCH_EMBEDDING_SQRT = 4,     /* embeddings times sqrt(dim) */
    ARCH_POST_NORMS = 8,
    ARCH_NO_PRE_NORMS = 16,
    ARCH_FUSED = 32,             /* attn_qkv, and ffn_up that holds the gate's rows first */
    ARCH_SCALES = 64,            /* the keys of granite's four scales */
    ARCH_SOFTCAPS = 128,         /* the keys of both softcaps */
    ARCH_TEMPERATURE = 256,      /* the key of the queries' scale by position */
    ARCH_NO_WINDOW_KEY = 512,    /* its files have a window's key by mistake: all layers see all */
    ARCH_LOCAL_ROPE = 1024,      /* layers with a window have their own RoPE base, unscaled */
    ARCH_GLOBAL_NO_ROPE = 2048,  /* where some layers have a window, the others have no RoPE */
    ARCH_LOCAL_HEADS = 4096,     /* keys of head_dim and rope_dim of layers with a window */
    ARCH_SHARED_KV = 8192,       /* the key of how many last layers use an earlier one's K and V */
    ARCH_PER_LAYER = 16384,      /* embeddings for each layer; a scale of each layer's output */
    ARCH_NORM_V = 32768,         /* a norm of V without weights; without attn_v, V is K */
    ARCH_SCORES_AS_THEY_ARE = 65536, /* q.k is not scaled */
    ARCH_LATENT = 131072,        /* multi-head latent attention */
    ARCH_TIED = 262144           /* grouped-tied attention */
};

typedef struct gqa_architecture {
    const char *name;            /* metadata keys begin with it */
    unsigned steps;
    gqa_qk_norm qk_norm;
    int window_pattern;          /* layers l with (l + 1) % pattern == 0 have no window; 0: all
                                  * have the file's, if any */
    int no_rope_pattern;         /* layers l with (l + 1) % pattern == 0 have no RoPE; 0: all do */
    /* What holds where the file has no such key; 0: the usual, no window, no cap, scales of 1. */
    float attention_softcap, logit_softcap;
    int window, min_window_layers; /* smaller models have windows only with a pattern's key */
    float local_rope_base;       /* 0: that of the other layers */
    float embedding_scale;
    float branch_scale;          /* each branch is scaled by this over sqrt(layers) */
    int logit_width;             /* logits are divided by dim / logit_width */
    int dim_scaled_layers;       /* a model of so many layers has scores of sqrt(heads / dim) */
} gqa_architecture;

/* NULL: not supported. */
const gqa_architecture *gqa_architecture_find(const char *name);
/* Their names, "llama, qwen2, ...". */
void gqa_architecture_names(char *out, size_t capacity);

#endif
