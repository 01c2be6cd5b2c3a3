/* line_edit.c: messages typed at a terminal (line_edit.h). The editor's state is a text, a cursor
 * and where the cursor stands on the screen; each key changes the first two, and draw() writes the
 * text again in one go. */
#include "line_edit.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "../base/base.h"
#include "../base/utf8.h"
#include "terminal.h"

typedef struct bytes {
    char *data;                  /* ends in a 0 once something was inserted */
    size_t len, capacity;
} bytes;

struct line_editor {
    bytes text, screen;          /* the message; what draw() is about to write */
    size_t at;                   /* the cursor is before this byte */
    bytes *history;              /* oldest first; the last is the message being typed */
    int n_history, shown;
    const char *prompt;
    int prompt_width, columns, rows;
    int row;                     /* of the cursor, counted from the first row drawn */
    char input[256];             /* bytes read, not yet used */
    size_t used, n_input;
    int is_out_of_memory;
    int is_early;                /* what is read was typed before keys were taken */
};

/* Keys beyond those that have a byte. */
enum { KEY_NONE = -1, KEY_EOF = -2, KEY_DELETE = 256, KEY_NEWLINE, KEY_PASTE, KEY_WORD_LEFT,
       KEY_WORD_RIGHT };
#define CONTROL(letter) ((letter) & 31)
enum { ESCAPE = 27, BACKSPACE = 127 };

/* ---- text ----------------------------------------------------------------------------------- */

static void insert_bytes(line_editor *e, bytes *b, size_t at, const char *data, size_t n) {
    if (b->capacity - b->len <= n) {
        size_t capacity = (b->len + n + 64) * 2;
        char *grown = realloc(b->data, capacity);
        if (!grown) {
            e->is_out_of_memory = 1;
            return;
        }
        b->data = grown;
        b->capacity = capacity;
    }
    memmove(b->data + at + n, b->data + at, b->len - at);
    memcpy(b->data + at, data, n);
    b->len += n;
    b->data[b->len] = 0;
}

static void insert(line_editor *e, const char *data, size_t n) {
    size_t before = e->text.len;
    insert_bytes(e, &e->text, e->at, data, n);
    e->at += e->text.len - before;
}

static void erase(line_editor *e, size_t from, size_t to) {
    memmove(e->text.data + from, e->text.data + to, e->text.len - to);
    e->text.len -= to - from;
    e->text.data[e->text.len] = 0;
    e->at = from;
}

int character_width(const char *text, size_t len, size_t *n) {
    uint32_t code;
    int size = utf8_decode(text, len, &code);
    *n = size > 0 ? (size_t)size : 1;
    if (size <= 0) return ((unsigned char)text[0] & 0xE0) == 0x80 ? 3 : 1;
    if (code == '\t') return 4;
    if (code < 32 || code == 127) return 2;
    if (code >= 0x80 && code < 0xA0) return 3;
    return gqa_os_character_width(code);
}

static int character(const bytes *text, size_t at, size_t *n) {
    return character_width(text->data + at, text->len - at, n);
}

/* The beginnings of the characters after and before `at`; combining marks belong to the one that
 * they stand on. */
static size_t next_character(const bytes *text, size_t at) {
    size_t n;
    if (at < text->len) {
        character(text, at, &n);
        at += n;
    }
    while (at < text->len && character(text, at, &n) == 0) at += n;
    return at;
}

static size_t previous_character(const bytes *text, size_t at) {
    size_t n = 1;
    int width = 0;
    while (at > 0 && width == 0) {
        at--;
        while (at > 0 && ((unsigned char)text->data[at] & 0xC0) == 0x80) at--;
        width = character(text, at, &n);
    }
    return at;
}

static size_t word_left(const bytes *text, size_t at) {
    while (at > 0 && strchr(" \n\t", text->data[at - 1])) at--;
    while (at > 0 && !strchr(" \n\t", text->data[at - 1])) at--;
    return at;
}

static size_t word_right(const bytes *text, size_t at) {
    while (at < text->len && strchr(" \n\t", text->data[at])) at++;
    while (at < text->len && !strchr(" \n\t", text->data[at])) at++;
    return at;
}

static size_t line_start(const bytes *text, size_t at) {
    while (at > 0 && text->data[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const bytes *text, size_t at) {
    while (at < text->len && text->data[at] != '\n') at++;
    return at;
}

/* ---- the screen ----------------------------------------------------------------------------- */

typedef struct place {
    int row, column;
} place;

static void show(line_editor *e, const char *data, size_t n) {
    insert_bytes(e, &e->screen, e->screen.len, data, n);
}

static void show_control(line_editor *e, const char *format, int n) {
    char control[32];
    int len = snprintf(control, sizeof control, format, n);
    show(e, control, (size_t)len);
}

static void show_character(line_editor *e, const char *data, size_t n) {
    char shown[4];
    if (*data == '\t') show(e, "    ", 4);
    else show(e, shown, visible_character(shown, data, n));
}

/* Goes through the text as the screen shows it, and writes rows first .. last. Returns where it
 * ends; *cursor is where the cursor stands. */
static place lay_out(line_editor *e, int first, int last, place *cursor) {
    const bytes *text = &e->text;
    place p = {0, e->prompt_width};
    size_t n;
    for (size_t i = 0; i < text->len; i += n) {
        int width = character(text, i, &n), is_newline = text->data[i] == '\n';
        if (!is_newline && p.column + width > e->columns) p = (place){p.row + 1, 0};
        if (i == e->at) *cursor = p;
        int is_shown = p.row >= first && p.row <= last;
        if (is_newline) {
            p = (place){p.row + 1, 0};
            if (is_shown && p.row <= last) show(e, "\n", 1);
            continue;
        }
        if (is_shown) show_character(e, text->data + i, n);
        p.column += width;
    }
    if (p.column >= e->columns) {
        p = (place){p.row + 1, 0};
        if (p.row <= last) show(e, "\n", 1);
    }
    if (e->at == text->len) *cursor = p;
    return p;
}

static void write_screen(line_editor *e) {
    gqa_os_write_terminal(e->screen.data, e->screen.len);
    e->screen.len = 0;
}

/* Draws the message, as many rows around the cursor as the screen has; all of them at the end. */
static void draw(line_editor *e, int is_end) {
    place cursor = {0, 0}, end = {0, 0};
    lay_out(e, INT_MAX, INT_MIN, &cursor); /* measures only */
    int first = is_end || cursor.row < e->rows - 1 ? 0 : cursor.row - (e->rows - 2);
    int last = is_end ? INT_MAX : first + e->rows - 2;
    if (e->row > 0) show_control(e, "\033[%dA", e->row);
    show(e, "\r\033[J", 4);
    if (first == 0) show(e, e->prompt, strlen(e->prompt));
    end = lay_out(e, first, last, &cursor);
    if (end.row > last) end.row = last;
    if (is_end) {
        write_screen(e);
        return;
    }
    if (end.row > cursor.row) show_control(e, "\033[%dA", end.row - cursor.row);
    show(e, "\r", 1);
    if (cursor.column > 0) show_control(e, "\033[%dC", cursor.column);
    e->row = cursor.row - first;
    write_screen(e);
}

static void measure_screen(line_editor *e) {
    int columns = 0, rows = 0;
    gqa_os_terminal_size(stderr, &columns, &rows);
    e->columns = columns > 4 ? columns : 80;
    e->rows = rows > 2 ? rows : 24;
}

/* ---- keys ----------------------------------------------------------------------------------- */

/* The next byte of stdin, KEY_EOF, or KEY_NONE when none came in time or a signal did. */
static int next_byte(line_editor *e, int milliseconds) {
    if (e->used == e->n_input) {
        e->is_early &= gqa_os_stdin_is_ready(0) > 0;
        int n = gqa_os_read_keys(e->input, sizeof e->input, milliseconds);
        if (n <= 0) return n < 0 ? KEY_NONE : KEY_EOF;
        e->n_input = (size_t)n;
        e->used = 0;
    }
    return (unsigned char)e->input[e->used++];
}

enum { SEQUENCE_MS = 50 }; /* between the bytes of a key that sends several */

/* The key of "ESC [ parameters letter" and "ESC O letter". */
static int control_key(line_editor *e) {
    static const struct {
        const char *sequence;
        int key;
    } keys[] = {
        {"A", CONTROL('P')}, {"B", CONTROL('N')}, {"C", CONTROL('F')}, {"D", CONTROL('B')},
        {"H", CONTROL('A')}, {"F", CONTROL('E')}, {"1~", CONTROL('A')}, {"7~", CONTROL('A')},
        {"4~", CONTROL('E')}, {"8~", CONTROL('E')}, {"3~", KEY_DELETE}, {"200~", KEY_PASTE},
        {"1;5C", KEY_WORD_RIGHT}, {"1;5D", KEY_WORD_LEFT},
        {"1;3C", KEY_WORD_RIGHT}, {"1;3D", KEY_WORD_LEFT},
    };
    char sequence[16];
    int n = 0, c;
    do {
        c = next_byte(e, SEQUENCE_MS);
        if (c < 0) return c;
        if (n < (int)sizeof sequence - 1) sequence[n++] = (char)c;
    } while (c < '@' || c > '~');
    sequence[n] = 0;
    for (size_t i = 0; i < array_length(keys); i++)
        if (!strcmp(sequence, keys[i].sequence)) return keys[i].key;
    return KEY_NONE;
}

static int next_key(line_editor *e) {
    enum { MILLISECONDS = 200 }; /* until a SIGINT from before the poll is noticed */
    int c = next_byte(e, MILLISECONDS);
    /* Ctrl-D reads as 0 when it was typed before keys were taken, later Ctrl-Space does */
    if (c == 0) return e->is_early ? CONTROL('D') : KEY_NONE;
    if (c != ESCAPE) return c;
    switch (c = next_byte(e, SEQUENCE_MS)) {
        case '[':
        case 'O': return control_key(e);
        case '\r':
        case '\n': return KEY_NEWLINE;
        case 'b': return KEY_WORD_LEFT;
        case 'f': return KEY_WORD_RIGHT;
        default: return c == KEY_EOF ? KEY_EOF : KEY_NONE;
    }
}

/* Inserts what a bracketed paste brings. */
static void paste(line_editor *e) {
    static const char end[] = "\033[201~";
    size_t start = e->at, n = sizeof end - 1;
    int c, before = 0;
    while ((c = next_byte(e, 1000)) >= 0) {
        char byte = c == '\r' ? '\n' : (char)c;
        int ends_crlf = c == '\n' && before == '\r';
        before = c;
        if (byte && !ends_crlf) insert(e, &byte, 1);
        if (e->at - start < n || memcmp(e->text.data + e->at - n, end, n)) continue;
        erase(e, e->at - n, e->at);
        return;
    }
}

/* Inserts a character, all of whose bytes are taken together. */
static void insert_character(line_editor *e, int first) {
    char text[4] = {(char)first};
    size_t n = 1;
    while (n < sizeof text && utf8_length(text, n) == 0) {
        int c = next_byte(e, SEQUENCE_MS);
        if (c < 0) return;
        text[n++] = (char)c;
    }
    if (utf8_length(text, n) > 0) insert(e, text, n);
}

/* ---- history -------------------------------------------------------------------------------- */

static void set_text(line_editor *e, const bytes *text) {
    erase(e, 0, e->text.len);
    if (text->len) insert(e, text->data, text->len);
}

static void keep_shown(line_editor *e) {
    bytes *entry = &e->history[e->shown];
    entry->len = 0;
    insert_bytes(e, entry, 0, e->text.data, e->text.len);
}

static void show_history(line_editor *e, int which) {
    if (which < 0 || which >= e->n_history) return;
    keep_shown(e);
    e->shown = which;
    set_text(e, &e->history[which]);
}

/* Up and down: within a message of several lines, and beyond it through the history. */
static void go_up(line_editor *e) {
    size_t start = line_start(&e->text, e->at);
    if (start > 0) e->at = start - 1;
    else show_history(e, e->shown - 1);
}

static void go_down(line_editor *e) {
    size_t end = line_end(&e->text, e->at);
    if (end < e->text.len) e->at = line_end(&e->text, end + 1);
    else show_history(e, e->shown + 1);
}

/* An empty message at the end of the history, to be typed. 0, or -1 without memory. */
static int begin_entry(line_editor *e) {
    int is_used = e->n_history > 0 && e->history[e->n_history - 1].len == 0;
    if (!is_used) {
        bytes *grown = realloc(e->history, sizeof *grown * (size_t)(e->n_history + 1));
        if (!grown) return -1;
        e->history = grown;
        e->history[e->n_history++] = (bytes){0};
    }
    e->shown = e->n_history - 1;
    insert_bytes(e, &e->text, 0, "", 0); /* so that there is one */
    if (e->is_out_of_memory) return -1;
    erase(e, 0, e->text.len);
    return 0;
}

/* A message that was sent is the last of the history, unless it repeats the one before. */
static void end_entry(line_editor *e) {
    e->shown = e->n_history - 1;
    const bytes *before = e->shown > 0 ? &e->history[e->shown - 1] : NULL;
    int repeats = before && before->len == e->text.len &&
                  !memcmp(before->data, e->text.data, before->len);
    if (repeats) e->history[e->shown].len = 0;
    else keep_shown(e);
}

/* Ctrl-R: the latest message that has the typed words in it; Ctrl-R again: the one before. Returns
 * the key that ended the search. */
static int search_history(line_editor *e) {
    bytes words = {0};
    const char *prompt = e->prompt;
    int width = e->prompt_width, found = e->shown, key = KEY_NONE;
    e->prompt = "(search) ";
    e->prompt_width = (int)strlen(e->prompt);
    for (;;) {
        draw(e, 0);
        key = next_key(e);
        int from = found;
        if (key == KEY_NONE && !interrupted()) continue;
        if (key == CONTROL('R')) from = found - 1;
        else if (key >= 32 && key < BACKSPACE)
            insert_bytes(e, &words, words.len, (char[]){(char)key}, 1);
        else break;
        while (from >= 0 && words.len &&
               !(e->history[from].len && strstr(e->history[from].data, words.data))) from--;
        if (from >= 0 && words.len) show_history(e, found = from);
    }
    free(words.data);
    e->prompt = prompt;
    e->prompt_width = width;
    return key;
}

/* ---- the terminal --------------------------------------------------------------------------- */

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

/* Keys come one by one, unechoed, Ctrl-C too. */
static void take_keys(line_editor *e) {
    gqa_os_take_keys(paste_off);
    show(e, paste_on, sizeof paste_on - 1);
    write_screen(e);
}

static void give_keys_back(line_editor *e) {
    show(e, paste_off, sizeof paste_off - 1);
    write_screen(e);
    gqa_os_give_keys_back();
}

/* Ctrl-Z. */
static void stop(line_editor *e) {
    give_keys_back(e);
    gqa_os_suspend();
    take_keys(e);
    e->row = 0;
    draw(e, 0);
}

/* ---- editing -------------------------------------------------------------------------------- */

/* Keys that move the cursor, and keys that erase what is between it and that place. */
typedef struct motion {
    int key;
    size_t (*to)(const bytes *text, size_t at);
} motion;
static const motion moves[] = {
    {CONTROL('A'), line_start}, {CONTROL('E'), line_end},
    {CONTROL('B'), previous_character}, {CONTROL('F'), next_character},
    {KEY_WORD_LEFT, word_left}, {KEY_WORD_RIGHT, word_right}, {KEY_NONE, NULL},
};
static const motion erasures[] = {
    {CONTROL('U'), line_start}, {CONTROL('K'), line_end}, {CONTROL('W'), word_left},
    {CONTROL('H'), previous_character}, {BACKSPACE, previous_character},
    {CONTROL('D'), next_character}, {KEY_DELETE, next_character}, {KEY_NONE, NULL},
};

/* Where the key leads to from the cursor; SIZE_MAX: it is not in the table. */
static size_t destination(const line_editor *e, const motion *table, int key) {
    while (table->to && table->key != key) table++;
    return table->to ? table->to(&e->text, e->at) : SIZE_MAX;
}

static void press(line_editor *e, int key) {
    size_t move = destination(e, moves, key), erased = destination(e, erasures, key);
    if (move != SIZE_MAX) e->at = move;
    else if (erased != SIZE_MAX) erase(e, min_size(erased, e->at), max_size(erased, e->at));
    else if (key == CONTROL('P')) go_up(e);
    else if (key == CONTROL('N')) go_down(e);
    else if (key == KEY_NEWLINE) insert(e, "\n", 1);
    else if (key == '\t') insert(e, "\t", 1);
    else if (key == KEY_PASTE) paste(e);
    else if (key == CONTROL('L')) {
        show(e, "\033[H\033[2J", 7);
        e->row = 0;
    } else if (key >= 32 && key < 256) insert_character(e, key);
}

/* Enter: whether the message is complete; a backslash before it becomes a newline. */
static int is_complete(line_editor *e) {
    if (e->at == 0 || e->at != e->text.len || e->text.data[e->at - 1] != '\\') return 1;
    erase(e, e->at - 1, e->at);
    insert(e, "\n", 1);
    return 0;
}

static line_status edit(line_editor *e) {
    for (;;) {
        int key = next_key(e), columns = e->columns;
        if (key == CONTROL('R')) key = search_history(e);
        if (key == CONTROL('C') || interrupted()) return LINE_INTERRUPTED;
        if (key == KEY_EOF || e->is_out_of_memory) return LINE_END;
        if (key == CONTROL('D') && e->text.len == 0) return LINE_END;
        if ((key == '\r' || key == '\n') && is_complete(e)) return LINE_TEXT;
        if (key == CONTROL('Z')) stop(e);
        measure_screen(e);
        if (key == KEY_NONE && columns == e->columns) continue;
        press(e, key);
        if (e->used == e->n_input) draw(e, 0); /* once for all that was typed or pasted */
    }
}

static line_status read_keys(line_editor *e, const char *prompt, char **text) {
    e->prompt = prompt ? prompt : "";
    e->prompt_width = (int)strlen(e->prompt);
    e->row = 0;
    e->is_early = 1;
    if (begin_entry(e)) return LINE_END;
    measure_screen(e);
    show(e, e->prompt, strlen(e->prompt));
    take_keys(e);
    line_status status = edit(e);
    if (status == LINE_TEXT) end_entry(e);
    e->at = e->text.len;
    draw(e, 1);
    if (status != LINE_END) show(e, "\n", 1);
    give_keys_back(e);
    *text = e->text.data;
    return e->is_out_of_memory ? LINE_END : status;
}

/* ---- lines as they come --------------------------------------------------------------------- */

/* Ctrl-C ends a poll, but no read, which might lose the beginning of a line. */
static int wait_for_input(void) {
    enum { MILLISECONDS = 200 }; /* until a Ctrl-C from before the poll is noticed */
    int is_ready = !gqa_os_is_terminal(stdin);
    while (!is_ready && !interrupted()) is_ready = gqa_os_stdin_is_ready(MILLISECONDS) != 0;
    return is_ready;
}

static line_status read_plain(line_editor *e, const char *prompt, char **text) {
    if (prompt) fputs(prompt, stderr);
    if (!wait_for_input()) {
        fputc('\n', stderr);
        return LINE_INTERRUPTED;
    }
    int c = 0;
    for (e->text.len = 0; c != '\n' && (c = gqa_os_getchar()) != EOF;)
        insert_bytes(e, &e->text, e->text.len, (char[]){(char)c}, 1);
    if (c == EOF && interrupted()) {
        fputc('\n', stderr);
        return LINE_INTERRUPTED;
    }
    if (e->text.len == 0 || ferror(stdin) || e->is_out_of_memory) return LINE_END;
    size_t len = drop_zeros(e->text.data, e->text.len);
    while (len > 0 && (e->text.data[len - 1] == '\n' || e->text.data[len - 1] == '\r'))
        e->text.data[--len] = 0;
    *text = e->text.data;
    return LINE_TEXT;
}

/* ---- the interface -------------------------------------------------------------------------- */

line_editor *line_editor_new(void) {
    return calloc(1, sizeof(line_editor));
}

void line_editor_free(line_editor *e) {
    if (!e) return;
    for (int i = 0; i < e->n_history; i++) free(e->history[i].data);
    free(e->history);
    free(e->text.data);
    free(e->screen.data);
    free(e);
}

line_status line_read(line_editor *e, const char *prompt, char **text) {
    return gqa_os_has_keys() ? read_keys(e, prompt, text) : read_plain(e, prompt, text);
}
