/* vocab.c: a vocabulary in memory: the bytes of each token, lookup by bytes, tokens with a role. */
#include "vocab.h"

#include <math.h>
#include <stdlib.h>

#include "../base/random.h"

/* ---- lookup ------------------------------------------------------------------------------ */

/* Universal hashing (Carter & Wegman 1979): few texts collide, whatever they are. */
static uint32_t hash_bytes(const gqa_vocab *v, const char *text, size_t len) {
    uint64_t h = 1;
    for (size_t i = 0; i < len; i++) h = vocab_hash_step(v, h, (unsigned char)text[i]);
    return (uint32_t)vocab_hash_step(v, h, 0);
}

/* The slot in v->table of the token with those bytes, or the empty slot for it. */
static int32_t *token_slot(const gqa_vocab *v, const char *text, size_t len) {
    uint32_t mask = v->table_size - 1;
    for (uint32_t i = hash_bytes(v, text, len) & mask;; i = (i + 1) & mask) {
        if (v->table[i] < 0) return &v->table[i];
        const gqa_bytes *b = &v->bytes[v->table[i]];
        if (b->size == len && !memcmp(b->data, text, len)) return &v->table[i];
    }
}

int32_t vocab_lookup(const gqa_vocab *v, const char *text, size_t len) {
    return *token_slot(v, text, len);
}

uint32_t vocab_hash_size(uint64_t n) {
    uint32_t size = 16;
    while (size < 2 * n) size *= 2;
    return size;
}

/* "<table>", "[multimodal]", "|||NAME|||": not a run of blanks or a word. */
static int is_bracketed(gqa_bytes name) {
    char last = name.size ? name.data[name.size - 1] : 0;
    char first = last == '>' ? '<' : last == ']' ? '[' : last == '|' ? '|' : 0;
    const char *at = first ? memchr(name.data, first, name.size) : NULL;
    return at && at + 2 < name.data + name.size;
}

/* Of tokens with the same bytes the first one is found. Marks are found as a whole or not at all:
 * merges do not lead to them. */
static int make_table(gqa_vocab *v) {
    v->table_size = vocab_hash_size((uint64_t)v->n);
    v->table = malloc(sizeof *v->table * v->table_size);
    if (!v->table) return -1;
    memset(v->table, -1, sizeof *v->table * v->table_size);
    for (int id = 0; id < v->n; id++) {
        int is_text = v->types[id] == TOKEN_NORMAL ||
                      (v->types[id] == TOKEN_USER && !is_bracketed(v->names[id]));
        if (!is_text || !v->bytes[id].size) continue;
        int32_t *slot = token_slot(v, v->bytes[id].data, v->bytes[id].size);
        if (*slot < 0) *slot = id;
    }
    return 0;
}

int vocab_byte_of_name(gqa_bytes name) {
    static const char digits[] = "0123456789ABCDEF";
    if (name.size != 6 || memcmp(name.data, "<0x", 3) || name.data[5] != '>') return -1;
    const char *high = memchr(digits, name.data[3], 16), *low = memchr(digits, name.data[4], 16);
    return high && low ? (int)(high - digits) * 16 + (int)(low - digits) : -1;
}

size_t vocab_mark_spaces(const char *text, size_t len, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == ' ') {
            memcpy(out + n, SPACE_MARK, 3);
            n += 3;
        } else {
            out[n++] = text[i];
        }
    }
    return n;
}

/* ---- tokens with a role ------------------------------------------------------------------ */

static int is_special(const gqa_vocab *v, int id) {
    int type = v->names[id].size ? v->types[id] : TOKEN_UNUSED;
    return type == TOKEN_CONTROL || type == TOKEN_USER || type == TOKEN_UNKNOWN;
}

static int compare_bytes(gqa_bytes a, gqa_bytes b) {
    int order = memcmp(a.data, b.data, min_size(a.size, b.size));
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_specials(const void *a, const void *b) {
    const special_token *x = a, *y = b;
    int order = compare_bytes(x->name, y->name);
    return order ? order : (x->id > y->id) - (x->id < y->id);
}

static int begins_with(gqa_bytes text, gqa_bytes start) {
    return text.size >= start.size && !memcmp(text.data, start.data, start.size);
}

static int make_specials(gqa_vocab *v) {
    int n = 0;
    for (int id = 0; id < v->n; id++) n += is_special(v, id);
    v->special = malloc(sizeof *v->special * ((size_t)n + 1));
    if (!v->special) return -1;
    for (int id = 0; id < v->n; id++)
        if (is_special(v, id))
            v->special[v->n_special++] = (special_token){v->names[id], id, -1};
    qsort(v->special, (size_t)n, sizeof *v->special, compare_specials);
    for (int i = 0; i < n; i++) {
        int32_t p = i - 1;
        while (p >= 0 && !begins_with(v->special[i].name, v->special[p].name))
            p = v->special[p].prefix;
        v->special[i].prefix = p;
        v->special_first[(unsigned char)v->special[i].name.data[0] + 1]++;
    }
    for (int b = 0; b < 256; b++) v->special_first[b + 1] += v->special_first[b];
    return 0;
}

const special_token *vocab_special_at(const gqa_vocab *v, const char *text, size_t len,
                                      special_kinds kinds) {
    int first = v->special_first[(unsigned char)*text];
    int low = first, high = v->special_first[(unsigned char)*text + 1];
    while (low < high) { /* low: the first one whose name is after the text */
        int mid = (low + high) / 2;
        if (compare_bytes(v->special[mid].name, (gqa_bytes){text, len}) <= 0) low = mid + 1;
        else high = mid;
    }
    for (int32_t i = low - 1; i >= first; i = v->special[i].prefix) {
        const special_token *s = &v->special[i];
        int is_wanted = kinds == SPECIAL_ALL || (v->types[s->id] == TOKEN_USER &&
                                                 (kinds == SPECIAL_USER || !is_bracketed(s->name)));
        if (is_wanted && begins_with((gqa_bytes){text, len}, s->name)) return s;
    }
    return NULL;
}

/* The names of end tokens: models list one eos, but their templates use several. */
static int is_end_name(gqa_bytes name) {
    static const char *const names[] = {
        "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>",
        "<end_of_turn>", "<turn|>", "</s>", "<EOT>", "_<EOT>", "<|return|>", "[|endofturn|]",
        "<|END_OF_TURN_TOKEN|>", "<end_of_utterance>",
        "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", /* DeepSeek */
    };
    for (size_t i = 0; i < array_length(names); i++)
        if (bytes_equal(name, names[i])) return 1;
    return 0;
}

/* <|...|>, <U+FF5C...U+FF5C>, [|...|], <...|>, [INST], <start_of_turn>: not <think>, which is
 * text. */
static int is_mark_name(gqa_bytes name) {
    static const char *const starts[] = {"<|", "<\xEF\xBD\x9C", "[|", "[INST]", "[/INST]",
                                         "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<start_of_"};
    for (size_t i = 0; i < array_length(starts); i++)
        if (bytes_start_with(name, starts[i])) return 1;
    const char *end = memchr(name.data, '>', name.size);
    return end && *name.data == '<' && end[-1] == '|';
}

enum { MAX_MARKS = 64, MAX_MARK_SIZE = 64 };

/* The marks in a template, each once, as far as they fit in out [MAX_MARKS]; returns how many. */
static int find_marks(const char *text, gqa_bytes *out) {
    int n = 0;
    for (const char *p = text; p && *p && n < MAX_MARKS; p++) {
        if ((*p != '<' && *p != '[') || !is_mark_name((gqa_bytes){p, strnlen(p, MAX_MARK_SIZE)}))
            continue;
        size_t size = 0;
        int known = 0;
        while (size < MAX_MARK_SIZE && p[size] && p[size] != '>' && p[size] != ']') size++;
        if (size == MAX_MARK_SIZE || !p[size]) continue;
        out[n] = (gqa_bytes){p, size + 1};
        for (int i = 0; i < n; i++) known |= !compare_bytes(out[i], out[n]);
        n += !known;
    }
    return n;
}

void vocab_promote(gqa_vocab *v) {
    gqa_bytes marks[MAX_MARKS];
    int n = find_marks(v->chat_template, marks);
    for (int id = 0; id < v->n; id++) {
        gqa_bytes name = v->names[id];
        if (v->types[id] != TOKEN_NORMAL && v->types[id] != TOKEN_USER) continue;
        int special = is_end_name(name);
        for (int i = 0; i < n && !special; i++) special = !compare_bytes(name, marks[i]);
        if (special) v->types[id] = TOKEN_CONTROL;
    }
}

static void mark_ends(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++)
        if (v->types[id] == TOKEN_CONTROL && is_end_name(v->names[id])) v->ends[id] = 1;
    if (v->eos >= 0) v->ends[v->eos] = 1;
}

/* ---- building ---------------------------------------------------------------------------- */

gqa_vocab *vocab_alloc(int n_tokens) {
    gqa_vocab *v = calloc(1, sizeof *v);
    size_t n = (size_t)n_tokens + 1;
    if (!v) return NULL;
    v->hash_key = 0x10000 + gqa_random_mix(gqa_os_clock() ^ (uintptr_t)v) % 0x7FFE0000;
    v->n = n_tokens;
    v->bos = v->eos = v->unk = -1;
    v->bytes = calloc(n, sizeof *v->bytes);
    v->names = calloc(n, sizeof *v->names);
    v->scores = calloc(n, sizeof *v->scores);
    v->types = calloc(n, sizeof *v->types);
    v->ends = calloc(n, sizeof *v->ends);
    memset(v->byte_id, -1, sizeof v->byte_id);
    if (v->bytes && v->names && v->scores && v->types && v->ends) return v;
    gqa_vocab_free(v);
    return NULL;
}

void gqa_vocab_free(gqa_vocab *v) {
    if (!v) return;
    free(v->bytes);
    free(v->names);
    free(v->scores);
    free(v->types);
    free(v->ends);
    free(v->table);
    free(v->rules);
    free(v->special);
    free(v->text);
    free(v->chat_template);
    free(v);
}

void vocab_name_bytes(gqa_vocab *v) {
    for (int id = 0; id < v->n; id++) {
        v->bytes[id] = v->names[id];
        int byte = vocab_byte_of_name(v->names[id]);
        if (byte < 0 || (v->types[id] != TOKEN_BYTE && v->types[id] != TOKEN_NORMAL)) continue;
        v->types[id] = TOKEN_BYTE;
        if (v->byte_id[byte] < 0) v->byte_id[byte] = id;
    }
}

int vocab_finish(gqa_vocab *v, const char *path, gqa_error *err) {
    mark_ends(v);
    /* a text never becomes a control token: bytes that no token spells are left out */
    if (v->unk >= 0 && v->types[v->unk] == TOKEN_CONTROL) v->unk = -1;
    if (!make_table(v) && !make_specials(v)) return 0;
    return gqa_fail_path(path, err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens",
                         v->n);
}

int gqa_vocab_new(gqa_vocab **out, const gqa_bytes *tokens, const float *scores,
                  const int32_t *types, int n, int32_t bos, int32_t eos, int32_t unk,
                  gqa_error *err) {
    *out = NULL;
    if (n < 1 || bos >= n || eos >= n || unk >= n)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "vocabulary of %d tokens: an id is out of range", n);
    gqa_vocab *v = vocab_alloc(n);
    size_t bytes = 0, used = 0;
    for (int i = 0; i < n; i++) bytes += tokens[i].size;
    if (v) v->text = malloc(bytes + 1);
    if (!v || !v->text) {
        gqa_vocab_free(v);
        return gqa_fail(err, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", n);
    }
    for (int i = 0; i < n; i++) {
        memcpy(v->text + used, tokens[i].data, tokens[i].size);
        v->names[i] = (gqa_bytes){v->text + used, tokens[i].size};
        used += tokens[i].size;
        v->scores[i] = scores[i];
        v->types[i] = (uint8_t)types[i];
    }
    v->bos = bos;
    v->eos = eos;
    v->unk = unk;
    v->add_bos = bos >= 0;
    v->add_space = v->escape_space = 1;
    vocab_name_bytes(v);
    int status = vocab_finish(v, "vocabulary", err);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- questions --------------------------------------------------------------------------- */

int32_t gqa_vocab_find(const gqa_vocab *v, const char *text, size_t len) {
    const special_token *s = len ? vocab_special_at(v, text, len, SPECIAL_ALL) : NULL;
    return s && s->name.size == len ? s->id : vocab_lookup(v, text, len);
}

static int has_token(const gqa_vocab *v, int32_t token) { return token >= 0 && token < v->n; }

int gqa_vocab_count(const gqa_vocab *v) { return v->n; }
int32_t gqa_vocab_bos(const gqa_vocab *v) { return v->bos; }
int32_t gqa_vocab_eos(const gqa_vocab *v) { return v->eos; }
int gqa_vocab_is_end(const gqa_vocab *v, int32_t token) {
    return has_token(v, token) && v->ends[token];
}
int gqa_vocab_is_control(const gqa_vocab *v, int32_t token) {
    return has_token(v, token) && v->types[token] == TOKEN_CONTROL;
}
int gqa_vocab_suppress(const gqa_vocab *v, float *logits, int n) {
    if (!v || !v->suppressed) return 0;
    for (uint64_t i = 0; logits && i < v->suppressed->count; i++) {
        int id = (int)gguf_array_number(v->suppressed, i);
        if (id < n) logits[id] = -HUGE_VALF;
    }
    return 1;
}
int gqa_vocab_adds_bos(const gqa_vocab *v) { return v->add_bos; }
int gqa_vocab_adds_space_prefix(const gqa_vocab *v) { return v->add_space; }
const char *gqa_vocab_warning(const gqa_vocab *v) { return v->warning[0] ? v->warning : NULL; }
const char *gqa_vocab_chat_template(const gqa_vocab *v) { return v->chat_template; }
