/* describe.c: what a model is: its layers, the memory of its KV cache, its chat template and some
 * tokens; and whether the library is the one that the program was compiled for.
 *     ./describe MODEL */
#include <stdio.h>

#include "../model.h"

static void describe(const gqa_model *model) {
    const gqa_config *c = gqa_model_config(model);
    printf("%s, %d layers, %d query heads\n", c->architecture, c->n_layers, c->n_heads);
    for (int l = 0; l < c->n_layers; l++) {
        const gqa_layer_config *layer = gqa_model_layer(model, l);
        printf("layer %d: %d KV heads, FFN of %d, %s", l, layer->n_kv_heads, layer->ffn_dim,
               layer->rope ? "RoPE" : "no RoPE");
        if (layer->window) printf(", window of %d", layer->window);
        printf("\n");
    }
    for (int n = 128; n <= 8192; n *= 8) {
        double kib = (double)gqa_model_kv_bytes(model, GQA_TYPE_F16, n) / 1024;
        printf("KV cache of %d positions: %.1f KiB in f16\n", n, kib);
    }
    const char *jinja = gqa_model_chat_template(model);
    printf("chat template: %s, %s\n", gqa_chat_template_name(model, NULL),
           jinja ? "from the model's file" : "which the model's file does not have");
    const char *const names[] = {"<|im_start|>", "<|endoftext|>", "</s>"};
    for (int i = 0; i < 3; i++) printf("%s: token %d\n", names[i], gqa_token_find(model, names[i]));
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    if (gqa_version_number() < GQA_VERSION_NUMBER) {
        fprintf(stderr, "libgqa is version %s, expected %s\n", gqa_version(), GQA_VERSION);
        return 1;
    }
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    if (model) describe(model);
    else fprintf(stderr, "%s\n", err.message);
    gqa_model_close(model);
    return err.code != 0;
}
