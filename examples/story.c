/* story.c: a story that goes on a little each time the program is run: the session is kept in a
 * file, so nothing is evaluated twice.
 *     ./story MODEL FILE [BEGINNING] */
#include <stdio.h>

#include "../model.h"

static int print(void *user, const char *text, size_t len) {
    return fwrite(text, 1, len, user) != len;
}

static int file_exists(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f) fclose(f);
    return f != NULL;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_generate_options opt = {.max_tokens = 20};
    if (argc < 3) {
        fprintf(stderr, "usage: story MODEL FILE [BEGINNING]\n");
        return 2;
    }
    const char *path = argv[2], *beginning = argc > 3 ? argv[3] : "Once upon a time";
    gqa_model *model = gqa_model_open(argv[1], NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
    if (sampler && file_exists(path)) {
        beginning = ""; /* goes on where the session is */
        gqa_session_load(session, path, &err);
    }
    if (sampler && !err.code &&
        !gqa_generate(session, sampler, beginning, &opt, print, stdout, NULL, &err))
        gqa_session_save(session, path, &err);
    printf("\n");
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
