/* vocab.h: the inside of a vocabulary. */
#ifndef GQA_VOCAB_H
#define GQA_VOCAB_H

#include <string.h>

#include "tokenizer.h"

/* GGUF token types. */
enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

typedef enum splitter { SPLIT_GPT2, SPLIT_LLAMA3, SPLIT_QWEN2, SPLIT_SMOLLM } splitter;

typedef struct merge_rule {  /* two neighbours become one */
    int32_t left, right;     /* left -1: an empty slot */
    int32_t result, rank;
} merge_rule;

struct gqa_vocab {
    int n;
    int byte_level;          /* 1: byte-level BPE by ranked merges; 0: SentencePiece-style BPE by scores */
    gqa_bytes *pieces;       /* [n] raw bytes of each token (byte-level: GPT-2's alphabet undone); views or into text */
    gqa_bytes *names;        /* [n] as the file spells them */
    float *scores;           /* [n] */
    uint8_t *types;          /* [n] TOKEN_* */
    uint8_t *ends;           /* [n] 1: ends a text */
    int32_t *table;          /* hash table of pieces: ids, -1 empty; table_size a power of two */
    uint32_t table_size;
    merge_rule *rules;       /* hash table of merges; rules_size a power of two */
    uint32_t rules_size;
    int32_t *special;        /* ids of control, user-defined and unknown tokens, longest first */
    int n_special;
    int32_t byte_id[256];    /* token of each single byte, or -1 */
    char *text;              /* memory of pieces that are not views */
    int32_t bos, eos, unk;
    int add_bos, add_eos, add_space, escape_space, ignore_merges;
    splitter split;
    char *chat_template;
    char warning[160];
    gqa_bytes pre, model;    /* as in the file, for writing it again */
    const gqa_checkpoint *file; /* NULL: not from a GGUF */
};

/* U+2581 stands for a space in SentencePiece vocabularies. */
#define SPACE_MARK "\xE2\x96\x81"

static inline int bytes_equal(gqa_bytes b, const char *text) {
    return b.size == strlen(text) && !memcmp(b.data, text, (size_t)b.size);
}
static inline int bytes_start_with(gqa_bytes b, const char *text) {
    return b.size >= strlen(text) && !memcmp(b.data, text, strlen(text));
}

/* ---- vocab.c ----------------------------------------------------------------------------------------------------- */

/* A vocabulary of n tokens, all fields still empty; NULL: no memory. */
gqa_vocab *vocab_alloc(int n);
/* SentencePiece-style vocabularies: a piece is the token's name; the tokens named "<0x00>" to "<0xFF>" are bytes. */
void vocab_name_bytes(gqa_vocab *v);
/* The last step of building: end tokens, the table of pieces, the special tokens. path is for the message. */
int vocab_finish(gqa_vocab *v, const char *path, gqa_error *err);

/* The id of those bytes among tokens that text can become, or -1. */
int32_t vocab_lookup(const gqa_vocab *v, const char *text, size_t len);
/* The byte that a token named exactly like "<0x1F>" stands for; else -1. */
int vocab_byte_of_name(gqa_bytes name);

/* A power of two at least twice n, for an open hash table. */
uint32_t hash_table_size(uint64_t n);
/* Where the merge of two tokens stands in v->rules, or the empty slot where it would (left is then -1). */
static inline merge_rule *vocab_merge_slot(const gqa_vocab *v, int32_t left, int32_t right) {
    uint32_t i = ((uint32_t)left * 0x9E3779B1u ^ (uint32_t)right * 0x85EBCA77u) & (v->rules_size - 1);
    while (v->rules[i].left >= 0 && (v->rules[i].left != left || v->rules[i].right != right))
        i = (i + 1) & (v->rules_size - 1);
    return &v->rules[i];
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* Ids as they come; beyond cap they are only counted. */
typedef struct id_list {
    int32_t *out;
    int cap, n;
    int no_memory;
} id_list;
static inline void id_add(id_list *list, int32_t id) {
    if (list->n < list->cap) list->out[list->n] = id;
    if (list->n < INT32_MAX) list->n++;
}

/* bpe.c: appends the ids of text[len], which holds no special tokens. */
void encode_scored(const gqa_vocab *v, const char *text, size_t len, id_list *out);  /* spaces are escaped already */
void encode_ranked(const gqa_vocab *v, const char *text, size_t len, id_list *out);

/* pretokenize.c: length of the first pre-token of text[len], len >= 1. */
size_t split_next(splitter kind, const char *text, size_t len);

#endif
