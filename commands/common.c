/* common.c: what the subcommands of `run` share (command.h). */
#include "command.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "../base/base.h"
#include "../base/utf8.h"
#include "../kernels/kernels.h"

/* ---- messages ------------------------------------------------------------------------------- */

static void print_message(const char *prefix, const char *format, va_list args) {
    fflush(stdout); /* the text comes first: both may go to one terminal */
    char text[2048], line[4 * sizeof text + 32];
    size_t len = (size_t)snprintf(line, sizeof line, "%s", prefix);
    vsnprintf(text, sizeof text, format, args);
    /* names of files can hold control characters */
    gqa_escape(line + len, sizeof line - len - 1, text);
    len = strlen(line);
    line[len++] = '\n';
    gqa_os_write_terminal(line, len); /* stderr has no buffer, and would cut characters */
}

static int mid_line;

void stdout_text(int ends_line) { mid_line = !ends_line; }

void end_line(void) {
    if (mid_line) putchar('\n');
    mid_line = 0;
}

int fail(const char *format, ...) {
    va_list args;
    end_line();
    va_start(args, format);
    print_message("run: ", format, args);
    va_end(args);
    return EXIT_FAILURE;
}

int usage_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message("run: ", format, args);
    va_end(args);
    fputs("Try `run --help` for the commands, `run COMMAND --help` for its options.\n", stderr);
    return EXIT_USAGE;
}

void warning(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message("run: warning: ", format, args);
    va_end(args);
}

size_t visible_character(char out[4], const char *text, size_t n) {
    unsigned char c = (unsigned char)text[n == 2 && text[0] == '\xC2'];
    int is_late = n <= 2 && c >= 0x80 && c < 0xA0 && (n == 1 || text[0] == '\xC2');
    int is_early = n == 1 && (c < 32 || c == 127) && c != '\n' && c != '\t';
    if (!is_late && !is_early) {
        memcpy(out, text, n);
        return n;
    }
    out[0] = '^';
    out[1] = is_late ? '[' : (char)(c ^ 64);
    out[2] = (char)(c - 64);
    return is_late ? 3 : 2;
}

/* To a terminal in parts of whole characters, as a buffer's end would cut them. */
int write_text(FILE *out, const char *text, size_t len) {
    char shown[256];
    int n;
    if (!gqa_os_is_terminal(out)) return fwrite(text, 1, len, out) == len ? 0 : -1;
    for (size_t i = 0; i < len;) {
        size_t size = 0;
        do {
            n = utf8_length(text + i, len - i);
            if (n <= 0) n = 1;
            size += visible_character(shown + size, text + i, (size_t)n);
            i += (size_t)n;
        } while (i < len && size + 4 <= sizeof shown);
        if (fflush(out) || fwrite(shown, 1, size, out) != size) return -1;
    }
    return 0;
}

int finish_stdout(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return EXIT_SUCCESS;
    int error = errno;
    if (gqa_os_reader_is_gone(stdout, error)) return EXIT_FAILURE; /* `| head`: not an error */
    return fail("cannot write to standard output: %s", strerror(error));
}

/* ---- numbers -------------------------------------------------------------------------------- */

int parse_int(const char *text, int64_t min, int64_t max, int64_t *out) {
    char *end;
    if (!strchr("+-0123456789", *text)) return -1; /* strtoll would skip spaces */
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < min || v > max) return -1;
    *out = v;
    return 0;
}

int parse_float(const char *text, double min, double max, double *out) {
    char *end;
    if (!strchr("+-.0123456789", *text) || strpbrk(text, "xX")) return -1;
    errno = 0;
    double v = strtod(text, &end);
    int overflow = errno && fabs(v) > 1;
    if (end == text || *end || !isfinite(v) || overflow || v < min || v > max) return -1;
    *out = v;
    return 0;
}

int parse_int_list(const char *text, int min, int max, int *out, int cap) {
    for (int n = 0; n < cap; text++) {
        char item[24];
        size_t len = strcspn(text, ",");
        int64_t v;
        if (len == 0 || len >= sizeof item) return -1;
        memcpy(item, text, len);
        item[len] = 0;
        if (parse_int(item, min, max, &v)) return -1;
        out[n++] = (int)v;
        text += len;
        if (!*text) return n;
    }
    return -1;
}

int parse_memory(const char *text, double *bytes) {
    static const char units[] = "kmgtKMGT";
    char *end;
    *bytes = strtod(text, &end);
    const char *unit = end != text && *end ? strchr(units, *end) : NULL;
    if (unit) *bytes = ldexp(*bytes, 10 * ((int)(unit - units) % 4 + 1));
    end += unit != NULL;
    int is_whole = !*end || !strcmp(end, "B") || (unit && !strcmp(end, "iB"));
    if (*bytes >= 1 && *bytes < 1e18 && end != text && is_whole) return 0;
    return usage_error("--memory %s: expected a size such as 8G or 512M", text);
}

/* ---- options -------------------------------------------------------------------------------- */

static void print_help(const char *usage, const opt *const *tables) {
    printf("usage: %s\n\n", usage);
    for (; *tables; tables++)
        for (const opt *o = *tables; o->name; o++) {
            printf("  %-22s ", o->name);
            for (const char *c = o->help; *c; c++) { /* later lines under the first */
                putchar(*c);
                if (*c == '\n') printf("%25s", "");
            }
            putchar('\n');
        }
    printf("  %-22s print this help\n", "--help");
}

/* Of "--top-k" in "--top-k K". */
static int name_length(const opt *o) { return (int)strcspn(o->name, " "); }

/* What other programs, or others of these commands, call an option; only for commands that have the
 * option with that argument. */
static const struct { const char *word, *name; } aliases[] = {
    {"--prompt", "-i TEXT"},
    {"--temp", "-t T"},
    {"--top-p", "-p P"},
    {"--seed", "-s SEED"},
    {"--threads", "-j N"},
    {"--ctx-size", "-c N"},
    {"--prompt", "-p N"},
    {"--reps", "-r N"},
    {"-p", "--prompt N"},
    {"-r", "--reps N"},
    {"--n-predict", "-n N"},
};
enum { N_ALIASES = array_length(aliases) };

/* By its first word, or with its argument's name. */
static const opt *find_name(const opt *const *tables, const char *name, size_t len) {
    for (; *tables; tables++)
        for (const opt *o = *tables; o->name; o++)
            if (!strncmp(o->name, name, len) && strchr(" ", o->name[len])) return o;
    return NULL;
}

static const opt *find_option(const opt *const *tables, const char *word, size_t len) {
    const opt *o = memchr(word, ' ', len) ? NULL : find_name(tables, word, len);
    for (int i = 0; i < N_ALIASES && !o; i++)
        if (strlen(aliases[i].word) == len && !memcmp(aliases[i].word, word, len))
            o = find_name(tables, aliases[i].name, strlen(aliases[i].name));
    return o;
}

/* "-n", "--kv", or with the argument in the same word, at *value: "--kv=q8_0", "-n3". */
static const opt *match_option(const opt *const *tables, const char *word, const char **value) {
    const opt *o = find_option(tables, word, strlen(word));
    *value = NULL;
    if (o) return o;
    if (word[1] == '-') {
        const char *equals = strchr(word, '=');
        if (equals) o = find_option(tables, word, (size_t)(equals - word));
        if (o) *value = equals + 1;
        return o;
    }
    o = word[2] && strchr("+-.0123456789", word[2]) ? find_option(tables, word, 2) : NULL;
    if (!o || (o->kind != OPT_INT && o->kind != OPT_INT64 && o->kind != OPT_FLOAT)) return NULL;
    *value = word + 2;
    return o;
}

int typo_distance(const char *typed, const char *word, size_t len) {
    enum { MAX_LEN = 40 };
    int rows[3][MAX_LEN + 1] = {{0}}, typed_len = (int)strnlen(typed, MAX_LEN + 1);
    int *row = rows[0], *above = rows[1], *above2 = rows[2];
    if (typed_len > MAX_LEN || len > MAX_LEN) return NO_TYPO;
    for (int j = 0; j <= (int)len; j++) row[j] = j;
    for (int i = 1; i <= typed_len; i++) { /* row[j]: from typed[0..i) to word[0..j) */
        int *reused = above2;
        above2 = above;
        above = row;
        row = reused;
        row[0] = i;
        for (int j = 1; j <= (int)len; j++) {
            int replaced = above[j - 1] + (typed[i - 1] != word[j - 1]);
            row[j] = min_int(replaced, min_int(above[j], row[j - 1]) + 1);
            int swapped = above2[j > 1 ? j - 2 : 0] + 1;
            if (i < 2 || j < 2 || swapped >= row[j]) continue;
            if (typed[i - 1] == word[j - 2] && typed[i - 2] == word[j - 1]) row[j] = swapped;
        }
    }
    return row[len] <= 2 && row[len] * 2 < typed_len ? row[len] : NO_TYPO;
}

typedef struct guess {
    const char *word;
    int len, distance;
} guess;

static void consider(guess *best, const char *typed, const char *word) {
    int len = (int)strcspn(word, " "), distance = typo_distance(typed, word, (size_t)len);
    if (distance < best->distance) *best = (guess){word, len, distance};
}

static int first_line(const char *text) { return (int)strcspn(text, "\n"); }

static int unknown_option(const opt *const *tables, const char *typed, const char *usage) {
    guess best = {.distance = NO_TYPO};
    const int line = first_line(usage);
    if (!strcmp(typed, "-m") || !strcmp(typed, "--model"))
        return usage_error("unknown option %s: the model comes first, without an option; usage: "
                           "%.*s", typed, line, usage);
    for (const opt *const *table = tables; *table; table++)
        for (const opt *o = *table; o->name; o++) consider(&best, typed, o->name);
    for (int i = 0; i < N_ALIASES; i++)
        if (find_name(tables, aliases[i].name, strlen(aliases[i].name)))
            consider(&best, typed, aliases[i].word);
    consider(&best, typed, "--help");
    if (!best.word) return usage_error("unknown option %s; usage: %.*s", typed, line, usage);
    return usage_error("unknown option %s; did you mean %.*s?", typed, best.len, best.word);
}

static int bad_number(const opt *o, const char *text) {
    const char *kind = o->kind == OPT_FLOAT ? "a number" : "a whole number";
    char range[80];
    if (!strcmp(o->name, "-p P") && !strchr("+-.0123456789", *text))
        return usage_error("-p %s: expected a number (top-p); a prompt goes after -i: -i TEXT",
                           text);
    if (o->max >= 9e18) snprintf(range, sizeof range, "from %.10g up", o->min);
    else snprintf(range, sizeof range, "from %.10g to %.10g", o->min, o->max);
    return usage_error("%.*s %s: expected %s %s", name_length(o), o->name, text, kind, range);
}

/* "-n -1" of other programs, where N has no bound of its own: "-n 0". */
static int means_no_limit(const opt *o, const char *text) {
    return !strcmp(o->name, "-n N") && o->max >= INT32_MAX && !strcmp(text, "-1");
}

/* Returns -1 to go on, else an exit code. */
static int set_option(const opt *o, const char *text) {
    int64_t max = o->max >= 9e18 ? INT64_MAX : (int64_t)o->max;
    int64_t whole;
    double number;
    opt_list *list = o->value;
    int capacity = (int)(sizeof list->items / sizeof *list->items);
    switch (o->kind) {
    case OPT_INT:
        if (means_no_limit(o, text)) text = "0";
        if (parse_int(text, (int64_t)o->min, max, &whole)) return bad_number(o, text);
        *(int *)o->value = (int)whole;
        break;
    case OPT_INT64:
        if (parse_int(text, (int64_t)o->min, max, o->value)) return bad_number(o, text);
        break;
    case OPT_FLOAT:
        if (parse_float(text, o->min, o->max, &number)) return bad_number(o, text);
        *(float *)o->value = (float)number;
        break;
    case OPT_STRING:
        *(const char **)o->value = text;
        break;
    case OPT_STRINGS:
        if (list->n == capacity)
            return usage_error("%.*s: at most %d times", name_length(o), o->name, capacity);
        list->items[list->n++] = text;
        break;
    case OPT_FLAG:
        *(int *)o->value = 1;
        break;
    }
    return -1;
}

int parse_options(int argc, char **argv, const opt *const *tables, const char **positional,
                  int max_positional, int *n_positional, const char *usage) {
    int only_words = 0;
    *n_positional = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || !word[1]) {
            if (*n_positional == max_positional)
                return usage_error("unexpected argument \"%s\" (at most %d); usage: %.*s", word,
                                   max_positional, first_line(usage), usage);
            positional[(*n_positional)++] = word;
            continue;
        }
        if (!strcmp(word, "--")) {
            only_words = 1;
            continue;
        }
        if (!strcmp(word, "-h") || !strcmp(word, "--help")) {
            print_help(usage, tables);
            return finish_stdout();
        }
        const char *value;
        const opt *o = match_option(tables, word, &value);
        if (!o) return unknown_option(tables, word, usage);
        if (o->kind == OPT_FLAG && value)
            return usage_error("%s: option %s takes no argument", word, o->name);
        if (o->kind != OPT_FLAG && !value) {
            if (i + 1 == argc)
                return usage_error("option %s requires an argument: %s", word, o->name);
            value = argv[++i];
        }
        int code = set_option(o, value);
        if (code >= 0) return code;
    }
    return -1;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* How many bytes came; 0: the end, or an error. */
static size_t read_some(FILE *f, char *out, size_t size) {
    if (f != stdin || !gqa_os_is_terminal(f))
        return fread(out, 1, min_size(size, GQA_MOST_BYTES), f);
    int c = gqa_os_getchar();
    *out = (char)c;
    return c != EOF;
}

char *read_text(const char *path, size_t *size) {
    int from_stdin = !strcmp(path, "-");
    const char *name = from_stdin ? "standard input" : path;
    FILE *f = from_stdin ? stdin : gqa_os_fopen(path, "rb");
    char *text = NULL;
    size_t capacity = 0, n = 1;
    *size = 0;
    if (!f) {
        fail("%s: %s", path, strerror(errno));
        return NULL;
    }
    do {
        if (capacity - *size < 2) {
            capacity = capacity ? capacity * 2 : 65536;
            char *grown = realloc(text, capacity);
            if (!grown) break;
            text = grown;
        }
        n = read_some(f, text + *size, capacity - *size - 1);
        *size += n;
        if (n > 0 || !ferror(f) || errno != EINTR) continue;
        clearerr(f);
        n = 1;
    } while (n > 0 && !feof(f));
    int complete = text && (n == 0 || feof(f)) && !ferror(f);
    if (!complete) fail("%s: %s", name, ferror(f) ? strerror(errno) : "out of memory");
    if (!from_stdin) fclose(f);
    if (!complete) {
        free(text);
        return NULL;
    }
    text[*size] = 0;
    return text;
}

size_t drop_zeros(char *text, size_t len) {
    size_t kept = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i]) text[kept++] = text[i];
    text[kept] = 0;
    return kept;
}

int file_begins(const char *path, const char *begin) {
    char head[64] = "";
    FILE *f = gqa_os_fopen(path, "rb");
    if (!f) return 0;
    head[fread(head, 1, sizeof head - 1, f)] = 0;
    fclose(f);
    return !strncmp(head, begin, strlen(begin));
}

int refuse_existing(const char *out, int force) {
    gqa_output o;
    gqa_error err = {0};
    gqa_os_hold_signals();
    int status = gqa_output_open(&o, out, &err);
    if (!status) gqa_output_cancel(&o);
    gqa_os_release_signals();
    if (status) return fail("%s", err.message);
    if (force || !gqa_os_exists(out)) return EXIT_SUCCESS;
    return fail("%s exists; --force replaces it", out);
}

void hold_signals(void) { gqa_os_hold_signals(); }
int signal_held(void) { return gqa_os_signal_held(); }
void release_signals(void) { gqa_os_release_signals(); }

/* Whether the file has a vocabulary of its own: it opens although none can be read elsewhere. */
static int has_vocabulary(const char *path) {
    gqa_model_options options = {.vocab_only = 1, .tokenizer_path = ""};
    gqa_model *model = gqa_model_open(path, &options, NULL);
    gqa_model_close(model);
    return model != NULL;
}

int check_tokenizer(const char *path, const char *tokenizer) {
    if (!tokenizer || !has_vocabulary(path)) return EXIT_SUCCESS;
    return fail("-z %s: %s brings its own tokenizer; -z is for llama2.c checkpoints", tokenizer,
                path);
}

int fast_prefill(int is_asked) {
    const char *force = getenv("GQA_FAST_PREFILL");
    return is_asked && force && *force ? 2 : is_asked;
}

void note_fast_prefill(const gqa_model *model, int is_asked) {
    if (is_asked && !gqa_model_get_stats(model)->fast_prefill)
        fputs("run: note: --fast-prefill has no effect: it needs f16, bf16 or f32 weights, and a "
              "CPU whose bf16 products are faster than those of f32\n", stderr);
}

gqa_model *open_model(const char *path, const gqa_model_options *options) {
    gqa_error err = {0};
    gqa_model_options o = *options;
    o.fast_prefill = fast_prefill(o.fast_prefill);
    if (check_tokenizer(path, o.tokenizer_path)) return NULL;
    gqa_model *model = gqa_model_open(path, &o, &err);
    if (!model) {
        fail("%s", err.message);
        return NULL;
    }
    if (gqa_model_warning(model)) warning("%s", gqa_model_warning(model));
    note_fast_prefill(model, o.fast_prefill);
    return model;
}

/* ---- figures -------------------------------------------------------------------------------- */

double seconds_now(void) { return gqa_os_seconds(); }

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, int n, double share) {
    if (n == 0) return (double)NAN;
    qsort(values, (size_t)n, sizeof *values, by_value);
    double at = share * (n - 1);
    int i = (int)at, next = i + 1 < n ? i + 1 : i;
    return values[i] + (at - i) * (values[next] - values[i]);
}

double median(double *values, int n) { return quantile(values, n, 0.5); }

void sample_add(sample *s, double v) {
    if (s->n < MAX_ROUNDS) s->values[s->n++] = v;
}

double sample_median(const sample *s) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, s->values, sizeof sorted);
    return median(sorted, s->n);
}

double sample_spread(const sample *s) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (int i = 0; i < s->n; i++) {
        low = fmin(low, s->values[i]);
        high = fmax(high, s->values[i]);
    }
    return s->n ? (high - low) / 2 / sample_median(s) : 0;
}

const char *cell(double value, double unit, int decimals, char buf[16]) {
    if (isnan(value)) return "-";
    snprintf(buf, 16, "%.*f", decimals, value / unit);
    return buf;
}

const char *human_bytes(double bytes, char buf[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 5) {
        bytes /= 1024;
        unit++;
    }
    int decimals = unit == 0 || bytes >= 100 ? 0 : bytes < 10 ? 2 : 1;
    snprintf(buf, 32, "%.*f %s", decimals, bytes, units[unit]);
    return buf;
}

const char *plural(int n) { return n == 1 ? "" : "s"; }

void show_tokens(int n, int timed, double seconds) {
    fprintf(stderr, "%d token%s", n, plural(n));
    if (timed > 0 && seconds > 0) fprintf(stderr, ", %.1f tok/s", timed / seconds);
}
