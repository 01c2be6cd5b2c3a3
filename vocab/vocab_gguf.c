/* vocab_gguf.c: vocabularies from and to the tokenizer.ggml.* metadata of GGUF files. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/utf8.h"
#include "../formats/gguf.h"
#include "vocab.h"

/* ---- GPT-2's alphabet -------------------------------------------------------------------- */

/* Bytes that print stand for themselves, the other 68 are U+0100 and up, in order. */
static int alphabet_byte(uint32_t c) {
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)) return (int)c;
    if (c < 256 || c >= 256 + 68) return -1;
    uint32_t n = c - 256;
    return n <= 32 ? (int)n : n <= 66 ? (int)(n - 33 + 127) : 173;
}

/* Undoes the alphabet: writes to out [text.size] and returns the number of bytes, or -1 when a
 * character is not in it. */
static ptrdiff_t undo_alphabet(gqa_bytes text, char *out) {
    ptrdiff_t n = 0;
    for (size_t at = 0; at < text.size;) {
        uint32_t c;
        int len = utf8_decode(text.data + at, text.size - at, &c);
        int byte = len > 0 ? alphabet_byte(c) : -1;
        if (byte < 0) return -1;
        out[n++] = (char)byte;
        at += (unsigned)len;
    }
    return n;
}

/* The bytes of every token: normal tokens' names are in the alphabet, others are as they are. */
static int decode_names(gqa_vocab *v) {
    size_t bytes = 0;
    for (int id = 0; id < v->n; id++) bytes += v->names[id].size;
    char *out = v->text = malloc(bytes + 1);
    if (!out) return -1;
    for (int id = 0; id < v->n; id++) {
        ptrdiff_t n = v->types[id] == TOKEN_NORMAL ? undo_alphabet(v->names[id], out) : -1;
        v->bytes[id] = n < 0 ? v->names[id] : (gqa_bytes){out, (size_t)n};
        if (n == 1 && v->byte_id[(unsigned char)*out] < 0) v->byte_id[(unsigned char)*out] = id;
        if (n > 0) out += n;
    }
    return 0;
}

/* ---- metadata ---------------------------------------------------------------------------- */

/* An array of strings or of numbers, of count elements (0: any number); NULL when absent. */
static const gguf_entry *meta_array(gguf_meta *m, const char *key, int strings, uint64_t count) {
    const gguf_entry *e = m->status ? NULL : gguf_find(m->c, key);
    if (!e) return NULL;
    if (e->type != GGUF_ARRAY || (e->array_type == GGUF_STRING) != strings)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s: expected an array of %s", key,
                       strings ? "strings" : "numbers");
    else if (count && e->count != count)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s has %" PRIu64 " elements, "
                       "tokenizer.ggml.tokens %" PRIu64, key, e->count, count);
    return m->status ? NULL : e;
}

/* The id of a token. Some writers put 2^32 - 1 for "none". */
static int32_t meta_id(gguf_meta *m, const char *key, const gqa_vocab *v, int32_t absent) {
    const gguf_entry *e = gguf_find(m->c, key);
    if (e && e->i == UINT32_MAX) return -1;
    return gguf_meta_int(m, key, -1, v->n - 1, absent);
}

static void read_chat_template(gqa_vocab *v, gguf_meta *m) {
    gqa_bytes text = gguf_meta_string(m, "tokenizer.chat_template");
    if (!text.data || text.size == 0) return;
    v->chat_template = malloc(text.size + 1);
    if (!v->chat_template) {
        gguf_meta_fail(m, GQA_ERR_MEMORY, "no memory for the chat template");
        return;
    }
    memcpy(v->chat_template, text.data, text.size);
    v->chat_template[text.size] = 0;
}

static void read_flags(gqa_vocab *v, gguf_meta *m) {
    v->bos = meta_id(m, "tokenizer.ggml.bos_token_id", v, v->bos);
    v->eos = meta_id(m, "tokenizer.ggml.eos_token_id", v, v->eos);
    v->unk = meta_id(m, "tokenizer.ggml.unknown_token_id", v, v->unk);
    int32_t eot = meta_id(m, "tokenizer.ggml.eot_token_id", v, -1);
    int32_t eom = meta_id(m, "tokenizer.ggml.eom_token_id", v, -1);
    v->add_bos = gguf_meta_bool(m, "tokenizer.ggml.add_bos_token", v->add_bos);
    v->add_eos = gguf_meta_bool(m, "tokenizer.ggml.add_eos_token", v->add_eos);
    v->add_space = gguf_meta_bool(m, "tokenizer.ggml.add_space_prefix", v->add_space);
    if (v->bos < 0) v->add_bos = 0;
    if (eot >= 0) v->ends[eot] = 1;
    if (eom >= 0) v->ends[eom] = 1;
}

/* Tokens that a model must not say: gemma4's, which end an image or a sound. */
static void read_suppressed(gqa_vocab *v, gguf_meta *m) {
    const char *key = "tokenizer.ggml.suppress_tokens";
    v->suppressed = meta_array(m, key, 0, 0);
    for (uint64_t i = 0; v->suppressed && i < v->suppressed->count && !m->status; i++) {
        double id = gguf_array_number(v->suppressed, i);
        if (!(id >= 0 && id < v->n))
            gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata %s: token %g, expected 0 to %d", key, id,
                           v->n - 1);
    }
}

/* Names, scores and types of all tokens. */
static void read_tokens(gqa_vocab *v, gguf_meta *m, const gguf_entry *tokens) {
    const gguf_entry *scores = meta_array(m, "tokenizer.ggml.scores", 0, tokens->count);
    const gguf_entry *types = meta_array(m, "tokenizer.ggml.token_type", 0, tokens->count);
    const uint8_t *at = tokens->array;
    if (!scores && !v->ranked)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata tokenizer.ggml.scores is missing");
    for (uint64_t id = 0; id < tokens->count && !m->status; id++) {
        double type = types ? gguf_array_number(types, id) : TOKEN_NORMAL;
        double score = scores ? gguf_array_number(scores, id) : 0;
        v->names[id] = gguf_next_string(&at);
        v->scores[id] = score >= -1e30 && score <= 1e30 ? (float)score : -1e30f;
        if (type >= 0 && type <= TOKEN_BYTE) v->types[id] = (uint8_t)type;
        else gguf_meta_fail(m, GQA_ERR_FORMAT, "tokenizer.ggml.token_type of token %" PRIu64
                            " is %g", id, type);
    }
}

/* ---- merges ------------------------------------------------------------------------------ */

/* The text of a token's name, to out [name.size]; returns its bytes, or -1. */
static ptrdiff_t token_text(const gqa_vocab *v, gqa_bytes name, char *out) {
    if (v->byte_level) return undo_alphabet(name, out);
    memcpy(out, name.data, name.size);
    return (ptrdiff_t)name.size;
}

/* Adds the rule "A B" when the tokens A, B and AB exist. buf holds as many bytes as the rule. */
static void add_rule(gqa_vocab *v, gqa_bytes rule, int32_t rank, char *buf) {
    const char *gap = rule.size > 1 ? memchr(rule.data + 1, ' ', rule.size - 1) : NULL;
    if (!gap) return;
    gqa_bytes a = {rule.data, (size_t)(gap - rule.data)}, b = {gap + 1, rule.size - a.size - 1};
    ptrdiff_t n_a = token_text(v, a, buf), n_b = n_a > 0 ? token_text(v, b, buf + n_a) : -1;
    if (n_b <= 0) return;
    size_t size = (size_t)n_a, both = (size_t)(n_a + n_b);
    int32_t left = vocab_lookup(v, buf, size), right = vocab_lookup(v, buf + size, both - size);
    int32_t result = vocab_lookup(v, buf, both);
    if (left < 0 || right < 0 || result < 0) return;
    merge_rule *slot = vocab_merge_slot(v, left, right);
    if (slot->left < 0) *slot = (merge_rule){left, right, result, rank};
}

static void read_rules(gqa_vocab *v, gguf_meta *m) {
    const gguf_entry *e = meta_array(m, "tokenizer.ggml.merges", 1, 0);
    if (!e)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "metadata tokenizer.ggml.merges is missing");
    else if (e->count > INT32_MAX / 4)
        gguf_meta_fail(m, GQA_ERR_FORMAT, "tokenizer.ggml.merges has %" PRIu64 " elements",
                       e->count);
    if (m->status) return;
    size_t longest = 0;
    const uint8_t *at = e->array;
    for (uint64_t i = 0; i < e->count; i++) longest = max_size(longest, gguf_next_string(&at).size);
    v->rules_size = vocab_hash_size(e->count);
    v->rules = malloc(sizeof *v->rules * v->rules_size);
    char *buf = malloc(longest + 1);
    if (v->rules && buf) {
        memset(v->rules, -1, sizeof *v->rules * v->rules_size);
        at = e->array;
        for (uint64_t i = 0; i < e->count; i++) add_rule(v, gguf_next_string(&at), (int32_t)i, buf);
    } else {
        gguf_meta_fail(m, GQA_ERR_MEMORY, "no memory for %" PRIu64 " merges", e->count);
    }
    free(buf);
}

/* ---- reading ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    splitter split;
    int ignore_merges, add_bos;
} known_splits[] = {
    {"llama-bpe", SPLIT_LLAMA3, 1, 1},
    {"llama3", SPLIT_LLAMA3, 1, 1},
    {"llama-v3", SPLIT_LLAMA3, 1, 1},
    {"falcon3", SPLIT_LLAMA3, 1, 1},
    {"lfm2", SPLIT_LLAMA3, 1, 1},
    {"midm-2.0", SPLIT_LLAMA3, 1, 1},
    {"pixtral", SPLIT_LLAMA3, 1, 1},
    {"dbrx", SPLIT_LLAMA3, 0, 0},
    {"smaug-bpe", SPLIT_LLAMA3, 0, 0},
    {"qwen2", SPLIT_QWEN2, 0, 0},
    {"deepseek-r1-qwen", SPLIT_QWEN2, 0, 0},
    {"hunyuan", SPLIT_QWEN2, 0, 0},
    {"stablelm2", SPLIT_QWEN2, 0, 0},
    {"megrez", SPLIT_QWEN2, 0, 0},
    {"smollm", SPLIT_SMOLLM, 0, 0},
    {"refact", SPLIT_SMOLLM, 0, 0},
    {"starcoder", SPLIT_SMOLLM, 0, 0},
    {"exaone", SPLIT_SMOLLM, 0, 0},
    {"minerva-7b", SPLIT_SMOLLM, 0, 0},
    {"gpt-2", SPLIT_GPT2, 0, 0},
    {"gpt2", SPLIT_GPT2, 0, 0},
    {"olmo", SPLIT_GPT2, 0, 0},
    {"exaone4", SPLIT_GPT2, 0, 0},
    {"granite-docling", SPLIT_GPT2, 0, 0},
    {"mpt", SPLIT_GPT2, 0, 0},
    {"a.x-4.0", SPLIT_GPT2, 0, 0},
    {"mellum", SPLIT_GPT2, 0, 0},
    {"trillion", SPLIT_GPT2, 0, 0},
    {"tekken", SPLIT_TEKKEN, 1, 1},
    {"gpt-4o", SPLIT_GPT4O, 0, 0},
    {"llama4", SPLIT_GPT4O, 0, 0},
    {"deepseek-llm", SPLIT_DEEPSEEK_LLM, 0, 0},
    {"deepseek-coder", SPLIT_DEEPSEEK_CODER, 0, 0},
    {"deepseek-v3", SPLIT_DEEPSEEK3, 0, 0},
    {"hunyuan-dense", SPLIT_DEEPSEEK3, 0, 0},
    {"youtu", SPLIT_YOUTU, 1, 0},
    {"default", SPLIT_DEFAULT, 0, 0},
};

static void choose_splitter(gqa_vocab *v, gqa_bytes pre) {
    if (!pre.data) {
        snprintf(v->warning, sizeof v->warning, "metadata tokenizer.ggml.pre is missing; text is "
                 "split as for \"default\", which may give wrong tokens");
        pre = (gqa_bytes){"default", 7}; /* as llama.cpp does */
    }
    for (size_t i = 0; i < array_length(known_splits); i++)
        if (bytes_equal(pre, known_splits[i].name)) {
            v->split = known_splits[i].split;
            v->ignore_merges = known_splits[i].ignore_merges;
            v->add_bos = known_splits[i].add_bos;
            return;
        }
    v->split = SPLIT_LLAMA3;
    char name[41], escaped[81];
    snprintf(name, sizeof name, "%.*s", (int)min_size(pre.size, 40), pre.data);
    gqa_escape(escaped, sizeof escaped, name);
    snprintf(v->warning, sizeof v->warning, "pre-tokenizer \"%s\" is not known; text is split as "
             "for llama-bpe, which may give wrong tokens", escaped);
}

static int fill_from_gguf(gqa_vocab *v, gguf_meta *m, const gguf_entry *tokens) {
    v->file = m->c;
    read_tokens(v, m, tokens);
    read_chat_template(v, m);
    if (!m->status) vocab_promote(v);
    if (v->byte_level) {
        choose_splitter(v, gguf_meta_string(m, "tokenizer.ggml.pre"));
        if (!m->status && decode_names(v))
            gguf_meta_fail(m, GQA_ERR_MEMORY, "no memory for a vocabulary of %d tokens", v->n);
    } else if (v->ranked) { /* gemma4: merges over characters, U+2581 for a space, byte tokens */
        v->escape_space = 1;
        v->split = SPLIT_LINES;
        vocab_name_bytes(v);
    } else {
        v->add_bos = v->add_space = v->escape_space = 1;
        v->bos = v->n > 2 ? 1 : -1;
        v->eos = v->n > 2 ? 2 : -1;
        v->unk = 0;
        vocab_name_bytes(v);
    }
    read_flags(v, m);
    read_suppressed(v, m);
    if (!m->status) m->status = vocab_finish(v, m->c->path, m->err);
    if (!m->status && v->ranked) read_rules(v, m);
    return m->status;
}

int gqa_vocab_from_gguf(gqa_vocab **out, const gqa_checkpoint *c, gqa_error *err) {
    *out = NULL;
    gguf_meta m = {.c = c, .err = err};
    const gguf_entry *tokens = meta_array(&m, "tokenizer.ggml.tokens", 1, 0);
    gqa_bytes model = tokens ? gguf_meta_string(&m, "tokenizer.ggml.model") : (gqa_bytes){"", 0};
    if (m.status || !tokens) return m.status;
    int byte_level = bytes_equal(model, "gpt2");
    int ranked = byte_level || bytes_equal(model, "gemma4");
    if (!ranked && !bytes_equal(model, "llama"))
        return fail_unsupported(c, err,
                                "tokenizer \"%.*s\" is not supported (llama, gpt2, gemma4 are)",
                                (int)min_size(model.size, 40), model.data ? model.data : "");
    if (tokens->count < 1 || tokens->count > GQA_MAX_VOCAB)
        return fail_format(c, err, "tokenizer.ggml.tokens has %" PRIu64 " elements", tokens->count);
    gqa_vocab *v = vocab_alloc((int)tokens->count);
    if (!v)
        return fail_memory(c, err, "no memory for a vocabulary of %d tokens", (int)tokens->count);
    v->byte_level = byte_level;
    v->ranked = ranked;
    int status = fill_from_gguf(v, &m, tokens);
    if (status) gqa_vocab_free(v);
    else *out = v;
    return status;
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Names, scores and types of all tokens. For a space llama2.c has " ", GGUF U+2581. */
static void write_tokens(const gqa_vocab *v, gguf_writer *w) {
    size_t n = (size_t)v->n, bytes = 0;
    for (size_t id = 0; id < n; id++) bytes += 3 * v->names[id].size;
    int32_t *types = malloc(n * sizeof *types);
    gqa_bytes *names = malloc(n * sizeof *names);
    char *text = malloc(bytes + 1), *end = text;
    if (types && names && text) {
        for (size_t id = 0; id < n; id++) {
            gqa_bytes name = v->names[id];
            types[id] = v->types[id];
            names[id] = name;
            if (v->escape_space || types[id] != TOKEN_NORMAL) continue;
            names[id] = (gqa_bytes){end, vocab_mark_spaces(name.data, name.size, end)};
            end += names[id].size;
        }
        gguf_put_strings(w, "tokenizer.ggml.tokens", names, n);
        gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, v->scores, n);
        gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, n);
    } else {
        gguf_writer_fail(w, GQA_ERR_MEMORY, "no memory to write a vocabulary of %d tokens", v->n);
    }
    free(types);
    free(names);
    free(text);
}

void gqa_vocab_write(const gqa_vocab *v, gguf_writer *w) {
    if (v->file) {
        for (int i = 0; i < v->file->n_meta; i++)
            if (bytes_start_with(v->file->meta[i].key, "tokenizer."))
                gguf_put_entry(w, &v->file->meta[i]);
        return;
    }
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.pre", "default", 7);
    write_tokens(v, w);
    if (v->bos >= 0) gguf_put_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, v->bos);
    if (v->eos >= 0) gguf_put_int(w, "tokenizer.ggml.eos_token_id", GGUF_U32, v->eos);
    if (v->unk >= 0) gguf_put_int(w, "tokenizer.ggml.unknown_token_id", GGUF_U32, v->unk);
    gguf_put_int(w, "tokenizer.ggml.add_bos_token", GGUF_BOOL, v->add_bos);
}
