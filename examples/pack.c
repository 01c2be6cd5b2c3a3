/* pack.c: writes the repacked weights beside a model, so that every program that opens it later
 * maps them instead of computing them.
 *     ./pack MODEL */
#include <stdio.h>

#include "../model.h"

int main(int argc, char **argv) {
    gqa_error err = {0};
    char path[1024];
    const char *model_path = argc > 1 ? argv[1] : "model.gguf";
    snprintf(path, sizeof path, "%s.packed", model_path);
    gqa_model *model = gqa_model_open(model_path, NULL, &err);
    if (model && gqa_model_save_packed(model, path, &err) == 0)
        printf("%s: for %s\n", path, gqa_model_get_stats(model)->isa);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_model_close(model);
    return err.code != 0;
}
