/* architectures.c: the rows. One that needs no step of its own is a row here and a case in
 * tests/test_architectures.c. */
#include "architectures.h"

#include <stdio.h>

static const gqa_architecture architectures[] = {
    {.name = "llama"},
    {.name = "qwen2", .steps = ARCH_ROPE_HALF},
    {.name = "qwen3", .steps = ARCH_ROPE_HALF, .qk_norm = GQA_QK_NORM_HEADS},
    {.name = "gemma", .steps = ARCH_ROPE_HALF | ARCH_GELU | ARCH_EMBEDDING_SQRT},
    {.name = "gemma2", .window = 4096, .window_pattern = 2, .dim_scaled_layers = 46,
     .attention_softcap = 50, .logit_softcap = 30,
     .steps = ARCH_ROPE_HALF | ARCH_GELU | ARCH_EMBEDDING_SQRT | ARCH_POST_NORMS | ARCH_SOFTCAPS},
    {.name = "gemma3", .qk_norm = GQA_QK_NORM_HEADS, .window_pattern = 6,
     .local_rope_base = 10000, .dim_scaled_layers = 62,
     .steps = ARCH_ROPE_HALF | ARCH_GELU | ARCH_EMBEDDING_SQRT | ARCH_POST_NORMS | ARCH_SOFTCAPS |
              ARCH_LOCAL_ROPE},
    {.name = "gemma4", .qk_norm = GQA_QK_NORM_HEADS, .logit_softcap = 30,
     .steps = ARCH_ROPE_HALF | ARCH_GELU | ARCH_EMBEDDING_SQRT | ARCH_POST_NORMS | ARCH_SOFTCAPS |
              ARCH_LOCAL_ROPE | ARCH_LOCAL_HEADS | ARCH_SHARED_KV | ARCH_PER_LAYER | ARCH_NORM_V |
              ARCH_SCORES_AS_THEY_ARE},
    {.name = "smollm3", .no_rope_pattern = 4},
    {.name = "granite", .steps = ARCH_SCALES},
    {.name = "minicpm", .steps = ARCH_SCALES, .embedding_scale = 12, .branch_scale = 1.4f,
     .logit_width = 256},
    {.name = "mistral3", .steps = ARCH_TEMPERATURE},
    {.name = "ernie4_5"},
    {.name = "phi3", .steps = ARCH_ROPE_HALF | ARCH_FUSED | ARCH_NO_WINDOW_KEY},
    {.name = "olmo2", .qk_norm = GQA_QK_NORM_ROWS, .window_pattern = 4,
     .steps = ARCH_ROPE_HALF | ARCH_POST_NORMS | ARCH_NO_PRE_NORMS | ARCH_LOCAL_ROPE},
    {.name = "exaone", .steps = ARCH_ROPE_HALF},
    {.name = "exaone4", .qk_norm = GQA_QK_NORM_HEADS, .window_pattern = 4, .min_window_layers = 64,
     .steps = ARCH_ROPE_HALF | ARCH_POST_NORMS | ARCH_NO_PRE_NORMS | ARCH_GLOBAL_NO_ROPE},
    {.name = "hunyuan-dense", .steps = ARCH_ROPE_HALF, .qk_norm = GQA_QK_NORM_AFTER_ROPE},
    {.name = "deepseek2", .steps = ARCH_LATENT},
    {.name = "gta", .steps = ARCH_TIED},
};

const gqa_architecture *gqa_architecture_find(const char *name) {
    for (size_t i = 0; i < array_length(architectures); i++)
        if (!strcmp(architectures[i].name, name)) return &architectures[i];
    return NULL;
}

void gqa_architecture_names(char *out, size_t capacity) {
    size_t used = 0;
    for (size_t i = 0; i < array_length(architectures) && used < capacity; i++)
        used += (size_t)snprintf(out + used, capacity - used, "%s%s", i ? ", " : "",
                                 architectures[i].name);
}
