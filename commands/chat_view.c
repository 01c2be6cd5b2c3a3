/* chat_view.c: an answer as it comes (chat_view.h): tags are found in the text, and what stands
 * between them goes on, on a terminal by words. */
#include "chat_view.h"

#include <string.h>

#include "command.h"
#include "line_edit.h"

const thought_tags *view_tags(const gqa_model *m) {
    static const thought_tags known[] = {
        {"<think>", "</think>"},
        {"[THINK]", "[/THINK]"},                       /* Mistral */
        {"<|channel>", "<channel|>"},                  /* Gemma 4 */
        {"<seed:think>", "</seed:think>"},
        {"<|inner_prefix|>", "<|inner_suffix|>"},      /* Apertus */
        {"<|START_THINKING|>", "<|END_THINKING|>"},    /* Command R */
        {"<thought>", "</thought>"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (gqa_token_find(m, known[i].open) >= 0 && gqa_token_find(m, known[i].close) >= 0)
            return &known[i];
    return &known[0];
}

static int write_out(const char *text, size_t len) {
    if (len) stdout_text(text[len - 1] == '\n');
    return write_text(stdout, text, len);
}

/* A thought is dim; for a hidden one, a word stands until it ends. */
static int mark_thought(const chat_view *view, int begins) {
    const char *mark = begins ? "\033[2m" : "\033[0m";
    if (view->hides_thoughts) mark = begins ? "\0337\033[2mthinking...\033[0m" : "\0338\033[J";
    return view->is_terminal && (fputs(mark, stdout) < 0 || fflush(stdout));
}

void view_begin(chat_view *view, const thought_tags *tags, int hides_thoughts, int is_thinking) {
    int columns = 0, rows;
    *view = (chat_view){.tags = tags, .hides_thoughts = hides_thoughts,
                        .is_thinking = is_thinking};
    const char *term = getenv("TERM"); /* Windows has none */
    view->is_terminal = gqa_os_is_terminal(stdout) && !(term && !strcmp(term, "dumb"));
    if (view->is_terminal) gqa_os_terminal_size(stdout, &columns, &rows);
    view->columns = columns > 20 ? columns : 80;
    if (is_thinking) mark_thought(view, 1);
}

/* ---- words ---------------------------------------------------------------------------------- */

/* Writes the word and the blanks before it, or a newline instead of these at the edge. */
static int flush_word(chat_view *view) {
    int failed = 0, wide = view->column + view->n_blanks + view->word_columns >= view->columns;
    if (wide && view->column > 0 && view->n_word > 0) {
        failed |= write_out("\n", 1);
        view->column = view->n_blanks = 0;
    }
    for (; view->n_blanks > 0; view->n_blanks--, view->column++) failed |= write_out(" ", 1);
    failed |= write_out(view->word, view->n_word);
    view->column += view->word_columns;
    view->n_word = 0;
    view->word_columns = 0;
    return failed;
}

/* A character of n bytes. */
static int put_character(chat_view *view, const char *text, size_t n, int width) {
    int failed = 0;
    if (*text == '\n') {
        failed = flush_word(view) | write_out("\n", 1);
        view->column = 0;
        return failed;
    }
    if (*text == ' ') {
        if (view->n_word) failed = flush_word(view);
        view->n_blanks++;
        return failed;
    }
    if (view->n_word + 4 > sizeof view->word) failed = flush_word(view);
    view->n_word += visible_character(view->word + view->n_word, text, n);
    view->word_columns += width;
    return width > 1 ? failed | flush_word(view) : failed; /* Chinese has no blanks */
}

static int put_visible(chat_view *view, const char *text, size_t len) {
    int failed = 0;
    size_t n;
    if (view->is_thinking && view->hides_thoughts) return 0;
    while (len && view->is_after_thoughts && (*text == ' ' || *text == '\n')) {
        text++;
        len--;
    }
    if (len) view->is_after_thoughts = 0;
    if (!view->is_terminal) return write_out(text, len);
    for (size_t i = 0; i < len; i += n) {
        int width = character_width(text + i, len - i, &n);
        failed |= put_character(view, text + i, n, width);
    }
    return failed;
}

/* ---- thoughts ------------------------------------------------------------------------------- */

static int change_thinking(chat_view *view, int is_thinking) {
    int failed = flush_word(view);
    int is_shown = !view->is_terminal && !view->hides_thoughts; /* the tag itself */
    view->is_thinking = is_thinking;
    view->is_after_thoughts = !is_thinking && view->hides_thoughts;
    if (is_shown) return failed | write_out(view->tag, view->n_tag);
    return failed | mark_thought(view, is_thinking);
}

int view_put(chat_view *view, const char *text, size_t len) {
    int failed = 0;
    for (size_t i = 0; i < len; i++) {
        const char *tag = view->is_thinking ? view->tags->close : view->tags->open;
        if (view->n_tag && text[i] != tag[view->n_tag]) {
            failed |= put_visible(view, view->tag, view->n_tag);
            view->n_tag = 0;
        }
        if (text[i] != tag[view->n_tag]) {
            const char *next = memchr(text + i + 1, *tag, len - i - 1);
            size_t n = next ? (size_t)(next - text) - i : len - i;
            failed |= put_visible(view, text + i, n);
            i += n - 1;
            continue;
        }
        view->tag[view->n_tag++] = text[i];
        if (tag[view->n_tag]) continue;
        failed |= change_thinking(view, !view->is_thinking);
        view->n_tag = 0;
    }
    return failed | fflush(stdout);
}

int view_end(chat_view *view) {
    int failed = put_visible(view, view->tag, view->n_tag);
    failed |= flush_word(view);
    if (view->is_thinking) failed |= mark_thought(view, 0);
    return failed | fflush(stdout);
}
