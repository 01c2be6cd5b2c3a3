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
 * have something left; *is_whole: the answer is one of them. */
static int texts_left(const choice_state *s, const char *answer, size_t len, const char **rest,
                      int *is_whole) {
    int n = 0;
    *is_whole = 0;
    for (int i = 0; i < s->texts->n; i++) {
        const char *text = s->texts->items[i];
        if (strncmp(text, answer, len)) continue;
        if (text[len]) rest[n++] = text + len;
        else *is_whole = 1;
    }
    return n;
}

static int begins_one(const char *const *rest, int n, const char *piece, int size) {
    for (int i = 0; i < n; i++)
        if (size > 0 && !strncmp(rest[i], piece, (size_t)size)) return 1;
    return 0;
}

int allow_choices(choice_state *s, const int32_t *tokens, int n_tokens, float *logits,
                  int n_vocab) {
    char answer[MAX_CHOICE + 1], piece[MAX_CHOICE];
    const char *rest[sizeof s->texts->items / sizeof *s->texts->items];
    int len = 0, is_whole;
    if (!s->has_begun) s->start = n_tokens;
    s->has_begun = 1;
    for (int i = s->start; i < n_tokens; i++)
        len += gqa_token_bytes(s->model, tokens[i], answer + len, MAX_CHOICE - len);
    answer[len] = 0;
    int n = texts_left(s, answer, (size_t)len, rest, &is_whole);
    s->is_complete = is_whole && n == 0;
    if (s->is_complete) return 1;
    for (int t = 0; t < n_vocab; t++) {
        int size = gqa_token_bytes(s->model, t, piece, MAX_CHOICE);
        int goes_on = size <= MAX_CHOICE && begins_one(rest, n, piece, size);
        int ends = is_whole && gqa_token_is_end(s->model, t);
        if (!goes_on && !ends) logits[t] = -INFINITY;
    }
    return 0;
}
