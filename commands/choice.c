/* choice.c: an answer that is exactly one of given texts (choice.h). */
#include "choice.h"

#include <math.h>
#include <string.h>

int check_choices(const opt_list *texts) {
    for (int i = 0; i < texts->n; i++) {
        size_t len = strlen(texts->items[i]);
        if (len == 0 || len > MAX_CHOICE)
            return usage_error("--choice: a text of %zu bytes, expected 1 to %d", len, MAX_CHOICE);
    }
    return EXIT_SUCCESS;
}

/* What is left of the texts that begin as the answer does, to rest [texts->n]. Returns how many
 * have something left. */
static int texts_left(const choice_state *s, const char **rest) {
    int n = 0;
    size_t len = (size_t)s->len;
    for (int i = 0; i < s->texts->n; i++) {
        const char *text = s->texts->items[i];
        if (!strncmp(text, s->answer, len) && text[len]) rest[n++] = text + len;
    }
    return n;
}

int is_whole_choice(const choice_state *s) {
    size_t len = (size_t)s->len;
    for (int i = 0; i < s->texts->n; i++)
        if (strlen(s->texts->items[i]) == len && !memcmp(s->texts->items[i], s->answer, len))
            return 1;
    return 0;
}

void add_to_choice(choice_state *s, int32_t token) {
    int free_bytes = MAX_CHOICE - s->len;
    int size = gqa_token_bytes(s->model, token, s->answer + s->len, free_bytes);
    if (size > 0 && size <= free_bytes) s->len += size;
}

static int begins_one(const char *const *rest, int n, const char *piece, int size) {
    for (int i = 0; i < n; i++)
        if (size > 0 && !strncmp(rest[i], piece, size)) return 1;
    return 0;
}

int allow_choices(const choice_state *s, float *logits, int n_vocab) {
    char piece[MAX_CHOICE];
    const char *rest[sizeof s->texts->items / sizeof *s->texts->items];
    int n = texts_left(s, rest), is_whole = is_whole_choice(s);
    if (is_whole && n == 0) return 1;
    for (int t = 0; t < n_vocab; t++) {
        int size = gqa_token_bytes(s->model, t, piece, MAX_CHOICE);
        int goes_on = size <= MAX_CHOICE && begins_one(rest, n, piece, size);
        int ends = is_whole && gqa_token_is_end(s->model, t);
        if (!goes_on && !ends) logits[t] = -INFINITY;
    }
    return 0;
}
