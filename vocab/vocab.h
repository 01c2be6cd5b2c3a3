/* vocab.h: the inside of a vocabulary. */
#ifndef GQA_VOCAB_H
#define GQA_VOCAB_H

#include "tokenizer.h"

/* GGUF token types. */
enum { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER, TOKEN_UNUSED, TOKEN_BYTE };

/* Pre-tokenisers. */
typedef enum splitter {
    SPLIT_GPT2, SPLIT_LLAMA3, SPLIT_QWEN2, SPLIT_SMOLLM, SPLIT_TEKKEN, SPLIT_GPT4O, SPLIT_DEFAULT,
    SPLIT_DEEPSEEK_LLM, SPLIT_DEEPSEEK_CODER, SPLIT_DEEPSEEK3, SPLIT_YOUTU, SPLIT_LINES
} splitter;

/* Two neighbours become one token. */
typedef struct merge_rule {
    int32_t left, right;     /* left -1: an empty slot */
    int32_t result, rank;
} merge_rule;

/* A token that is recognised in a text as a whole. */
typedef struct special_token {
    gqa_bytes name;
    int32_t id;
    int32_t prefix;          /* the longest other one whose name this one begins with, or -1 */
} special_token;

struct gqa_vocab {
    int n;
    int ranked;              /* 1: BPE by ranked merges; 0: SentencePiece's, by scores */
    int byte_level;          /* 1: names are in GPT-2's alphabet of bytes */
    gqa_bytes *names;        /* [n] tokens as the file spells them */
    gqa_bytes *bytes;        /* [n] what they stand for (byte-level: GPT-2's alphabet undone) */
    float *scores;           /* [n] */
    uint8_t *types;          /* [n] TOKEN_* */
    uint8_t *ends;           /* [n] 1: ends a text */
    int32_t *table;          /* hash table by bytes: ids, -1 empty */
    uint32_t table_size;     /* a power of two */
    merge_rule *rules;       /* hash table of merges */
    uint32_t rules_size;     /* a power of two */
    uint64_t hash_key;       /* differs from run to run: a file cannot be made to collide */
    special_token *special;  /* [n_special] control, user-defined, unknown; sorted by name, id */
    int n_special;
    int special_first[257];  /* those beginning with byte b are special[first[b] .. first[b+1]-1] */
    int32_t byte_id[256];    /* token of each single byte, or -1 */
    char *text;              /* storage for names or bytes that are not in the file */
    int32_t bos, eos, unk;
    int add_bos, add_eos, add_space, escape_space, ignore_merges;
    splitter split;
    char *chat_template;
    char warning[200];
    const gqa_checkpoint *file; /* NULL: not from a GGUF */
    const gguf_entry *suppressed; /* ids that are never generated; NULL: none */
};

/* U+2581 stands for a space in SentencePiece vocabularies. */
#define SPACE_MARK "\xE2\x96\x81"

/* ---- vocab.c ----------------------------------------------------------------------------- */

/* A vocabulary of n tokens, all fields still empty; NULL: no memory. */
gqa_vocab *vocab_alloc(int n);
/* SentencePiece's: a token's bytes are its name; "<0x00>" to "<0xFF>" are single bytes. */
void vocab_name_bytes(gqa_vocab *v);
/* The last step of building: end tokens, hash table, special tokens. path is for messages. */
int vocab_finish(gqa_vocab *v, const char *path, gqa_error *err);

/* The id of those bytes among tokens that text can become, or -1. */
int32_t vocab_lookup(const gqa_vocab *v, const char *text, size_t len);
/* The byte that a token named exactly like "<0x1F>" stands for; else -1. */
int vocab_byte_of_name(gqa_bytes name);
/* Copies text[len] to out [3 * len] with U+2581 for every space; returns the bytes written. */
size_t vocab_mark_spaces(const char *text, size_t len, char *out);

/* Which special tokens are looked for: all, those that the file calls user-defined, or of these
 * those that are no marks like <table>, but runs of blanks and words. */
typedef enum special_kinds { SPECIAL_ALL, SPECIAL_USER, SPECIAL_PLAIN } special_kinds;
/* The longest one that text[len] begins with, or NULL. */
const special_token *vocab_special_at(const gqa_vocab *v, const char *text, size_t len,
                                      special_kinds kinds);
/* Makes control tokens of those that end a text or mark the parts of a conversation, by their
 * names and v->chat_template, whatever type the file gives them. */
void vocab_promote(gqa_vocab *v);

/* A power of two at least twice n, for an open hash table. */
uint32_t vocab_hash_size(uint64_t n);
/* One step of a polynomial in the vocabulary's key, modulo the prime 2^31 - 1. */
static inline uint64_t vocab_hash_step(const gqa_vocab *v, uint64_t h, uint32_t value) {
    return (h * v->hash_key + value + 1) % 0x7FFFFFFF;
}
/* The slot in v->rules of a merge of two tokens, or the empty slot for it (left is then -1). */
static inline merge_rule *vocab_merge_slot(const gqa_vocab *v, int32_t left, int32_t right) {
    uint32_t mask = v->rules_size - 1;
    uint64_t h = vocab_hash_step(v, vocab_hash_step(v, 1, (uint32_t)left), (uint32_t)right);
    uint32_t i = (uint32_t)vocab_hash_step(v, h, 0) & mask;
    while (v->rules[i].left >= 0 && (v->rules[i].left != left || v->rules[i].right != right))
        i = (i + 1) & mask;
    return &v->rules[i];
}

/* ---- encoding ---------------------------------------------------------------------------- */

/* Receives ids: the first cap are written, all are counted. */
typedef struct id_list {
    int32_t *out;
    int cap, n;
    int no_memory;
} id_list;
static inline void id_add(id_list *list, int32_t id) {
    if (list->n < list->cap) list->out[list->n] = id;
    if (list->n < INT32_MAX) list->n++;
}

/* bpe.c: append the ids of text[len], which holds no special tokens. For encode_scored its spaces
 * are escaped already. */
void encode_scored(const gqa_vocab *v, const char *text, size_t len, id_list *out);
void encode_ranked(const gqa_vocab *v, const char *text, size_t len, id_list *out);

/* pretokenize.c: sets cuts[i] where a pre-token of text[len] begins, else clears it; len >= 1. */
void pretokenize(splitter kind, const char *text, size_t len, uint8_t *cuts);
/* The length of the pre-token that begins at cuts[0], of len that are left. */
size_t pretoken_length(const uint8_t *cuts, size_t len);

#endif
