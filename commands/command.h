/* command.h: what the subcommands of `run` share: the command line, messages, files, figures. */
#ifndef GQA_COMMAND_H
#define GQA_COMMAND_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/os.h"
#include "../model.h"

enum { EXIT_USAGE = 2 }; /* beside EXIT_SUCCESS and EXIT_FAILURE */

/* ---- the command line ----------------------------------------------------------------------- */

/* One option. value points at: int (OPT_INT), int64_t (OPT_INT64), float (OPT_FLOAT),
 * const char * (OPT_STRING), int (OPT_FLAG: set to 1), opt_list (OPT_STRINGS: may be repeated).
 * Numbers must lie in [min, max] and are parsed whole: "12x" is an error. A maximum of 9e18 or more
 * is none. */
typedef enum opt_kind { OPT_INT, OPT_INT64, OPT_FLOAT, OPT_STRING, OPT_FLAG, OPT_STRINGS } opt_kind;
typedef struct opt_list {
    const char *items[64];
    int n;
} opt_list;
typedef struct opt {
    const char *name;      /* "-n N", "--json": the option, and the name of its argument in help */
    opt_kind kind;
    void *value;
    double min, max;
    const char *help;      /* may have several lines */
} opt;
#define OPT_END {NULL, OPT_FLAG, NULL, 0, 0, NULL}
/* The help of options that many commands have. */
#define THREADS_HELP "threads (default: one per physical core)"
#define KV_HELP "KV cache type: f32, f16, bf16, q8_0, q4_0, or KEYS/VALUES (default f16)"
#define EXACT_HELP \
    "activations in 16 bits beside all quantised weights, not some:\n" \
    "long prompts take twice the time"
#define FAST_HELP \
    "multiply float weights as bf16 in long prompts, where the CPU is\nfaster so: less exact"
#define REPACK_HELP "run from the mapped file: less memory, slower"
#define FORCE_HELP "replace OUT.gguf if it exists"
#define QUIET_HELP "print nothing on stderr but errors"
#define LLAMA2C_HELP "tokenizer of a llama2.c checkpoint (default: tokenizer.bin\nbeside it)"

/* Parses argv[0..argc-1] (the command's own words). Words that are not options go to
 * positional[0..*n_positional-1] (at most max_positional; more is an error). "-" alone is a word;
 * everything after "--" is too. An option's argument is the next word even if it starts with
 * '-', or stands in the same word: "--kv=q8_0", "-n3" (numbers). Names that other programs give to
 * options are understood: "--temp" for "-t T".
 * "-h" and "--help" print usage and the tables to stdout. Returns -1 to go on, else an exit code
 * (0 after help, 2 after printing an error). TABLES(a, b): option tables that end with OPT_END. */
#define TABLES(...) (const opt *const[]){__VA_ARGS__, NULL}
int parse_options(int argc, char **argv, const opt *const *tables, const char **positional,
                  int max_positional, int *n_positional, const char *usage);

/* The edits between typed and word[len], two letters swapped being one, when so few that it may be
 * a slip; else NO_TYPO. */
enum { NO_TYPO = 100 };
int typo_distance(const char *typed, const char *word, size_t len);

/* A warning when that template knows no variable for thoughts, which were asked for or not. */
void warn_thinking(const char *jinja);
/* --date: 0 (for NULL too), or EXIT_USAGE after printing an error. */
int check_date(const char *date);

/* Strict numbers for values inside options. 0, or -1 when the text is not wholly that. */
int parse_int(const char *text, int64_t min, int64_t max, int64_t *out);
int parse_float(const char *text, double min, double max, double *out);
/* "0,1024,4096" into out[cap]. Returns how many, or -1. */
int parse_int_list(const char *text, int min, int max, int *out, int cap);

/* --memory: "8G", "512M" or bytes. 0, or EXIT_USAGE after printing an error. */
int parse_memory(const char *text, double *bytes);

/* What --kv-heads and a shape's kv_heads say, of a config with heads and head_dim: a number, "gta",
 * "gta:G", "mla" or "mla:512+64" (numbers of the latent and of RoPE). 0, or EXIT_USAGE after
 * printing an error. */
int set_attention(gqa_config *shape, const char *text);

/* "dim=2048,layers=22,heads=32,kv_heads=4,ffn=5632,vocab=32000[,head_dim=64][,context=N][,window=N]
 * [,type=q8_0]" into a config for gqa_model_random and a type. 0, or EXIT_USAGE after printing an
 * error. */
int parse_shape(const char *text, gqa_config *shape, gqa_type *type);

/* ---- messages ------------------------------------------------------------------------------- */

/* "run: message\n" on stderr. Return EXIT_FAILURE and EXIT_USAGE. */
int fail(const char *format, ...) GQA_PRINTF(1, 2);
int usage_error(const char *format, ...) GQA_PRINTF(1, 2);
/* Tells that text was written to stdout, and whether it ended with a newline: if not, end_line
 * writes one, and so does fail before its message. */
void stdout_text(int ends_line);
void end_line(void);
/* "run: warning: message\n" on stderr. */
void warning(const char *format, ...) GQA_PRINTF(1, 2);

/* What shows the character text[n]: control characters, which a terminal would obey, become "^[",
 * those of U+0080 to U+009F "^[[" (ESC and what it stands for); newline and tab stay. Returns the
 * length of out. */
size_t visible_character(char out[4], const char *text, size_t n);
/* Writes text[len], on a terminal as that. 0, or -1 on failure. */
int write_text(FILE *out, const char *text, size_t len);

/* Flushes stdout. 0, or EXIT_FAILURE after printing an error (silently when a pipe's reader has
 * left). */
int finish_stdout(void);

/* ---- files ---------------------------------------------------------------------------------- */

/* A whole file, or stdin for "-", with a 0 after it; free() it. NULL after printing an error. */
char *read_text(const char *path, size_t *size);

/* Removes the zero bytes of text[len], which cannot stand in a message, and ends it with one.
 * Returns its new length. */
size_t drop_zeros(char *text, size_t len);

/* Whether the file can be read and begins so (with at most 63 bytes). */
int file_begins(const char *path, const char *begin);

/* Refuses to write a model to a file that exists, unless with --force, to a device or a folder even
 * so, and to a folder in which none can be made. A symbolic link counts as what it leads to. 0, or
 * EXIT_FAILURE after an error. */
int refuse_existing(const char *out, int force);

/* Between these two, a signal that would end the program (Ctrl-C, a closed terminal, a limit on the
 * size of files, ...) only makes signal_held() true: the code that writes a file can remove it.
 * release_signals then lets the signal do what it always does. */
void hold_signals(void);
int signal_held(void);
void release_signals(void);

/* Refuses -z for a model with a tokenizer of its own. 0, or EXIT_FAILURE after an error. */
int check_tokenizer(const char *path, const char *tokenizer);
/* --fast-prefill as gqa_model_options has it: with $GQA_FAST_PREFILL wherever the CPU can. */
int fast_prefill(int is_asked);
/* Tells when it is asked for and has no effect. */
void note_fast_prefill(const gqa_model *model, int is_asked);
/* All three and gqa_model_open; prints the model's warning. NULL after printing an error. */
gqa_model *open_model(const char *path, const gqa_model_options *options);

/* ---- figures -------------------------------------------------------------------------------- */

double seconds_now(void);              /* monotonic */
/* Sorts values[n]; share 0 to 1 of them are below, between two of them by a straight line; NaN of
 * none. */
double quantile(double *values, int n, double share);
double median(double *values, int n);  /* the same of 0.5 */

/* A figure measured several times. */
enum { MAX_ROUNDS = 50 };
typedef struct sample {
    double values[MAX_ROUNDS];
    int n;
} sample;
void sample_add(sample *s, double v);
double sample_median(const sample *s);
double sample_spread(const sample *s); /* (largest - smallest) / 2, as a share of the median */

/* value / unit, or "-" for NaN. */
const char *cell(double value, double unit, int decimals, char buf[16]);

/* "512 bytes", "22.0 KiB", "1.10 GiB". Written to buf, returned. */
const char *human_bytes(double bytes, char buf[32]);
const char *plural(int n); /* "s", or "" after 1 */
/* To stderr: "12 tokens, 34.5 tok/s", of which `timed` took that time; no speed where none did. */
void show_tokens(int n, int timed, double seconds);
/* gqa_model_kv_bytes of a cache type as --kv takes it; NULL: f16. */
uint64_t kv_cache_bytes(const gqa_model *model, const char *kv, int n);
/* "MHA", "GQA-4" (KV heads), "MQA". Written to buf, returned. */
const char *attention_name(const gqa_config *config, char buf[16]);
/* Numbers in a cache of n positions, had each of the model's layers so many KV heads (0: its own),
 * of its own head_dim and within its window. Under MLA a layer caches 4.5 head_dim elements, as
 * much as MLA_KV_HEADS (DeepSeek-V2, arXiv 2405.04434, table 1). */
#define MLA_KV_HEADS 2.25
double kv_values(const gqa_model *m, double kv_heads, int n);
/* Multiply-adds of QK and PV, all layers, for one query that sees n positions of that cache. */
double attention_macs(const gqa_model *m, double kv_heads, int n);

/* ---- the subcommands ------------------------------------------------------------------------ */

/* argv[0] is the first word after the command's name. Return the exit code. */
int command_generate(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_info(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_template(int argc, char **argv);
int command_perplexity(int argc, char **argv);
int command_bench(int argc, char **argv);
int command_compare(int argc, char **argv);
int command_convert(int argc, char **argv);
int command_train(int argc, char **argv);
int command_uptrain(int argc, char **argv);

#endif
