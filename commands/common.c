/* common.c: what the subcommands of `run` share (command.h). */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void say(const char *format, va_list args) {
    fflush(stdout);  /* text first: both may go to one terminal */
    fputs("run: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    return EXIT_FAILURE;
}

int usage_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    fputs("`run --help` lists the commands, `run COMMAND --help` the options of one\n", stderr);
    return EXIT_USAGE;
}

int finish_stdout(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return EXIT_SUCCESS;
    if (errno == EPIPE) return EXIT_FAILURE;  /* the reader has seen enough, `| head`: nothing to tell */
    return fail("cannot write to the standard output: %s", strerror(errno));
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

int parse_int(const char *text, int64_t min, int64_t max, int64_t *out) {
    char *end;
    if (!strchr("+-0123456789", *text)) return -1;  /* strtoll would skip spaces */
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < min || v > max) return -1;
    *out = v;
    return 0;
}

int parse_float(const char *text, double min, double max, double *out) {
    char *end;
    if (!strchr("+-.0123456789", *text)) return -1;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v) || (errno && fabs(v) > 1) || strpbrk(text, "xX") || v < min || v > max) return -1;
    *out = v;
    return 0;
}

int parse_int_list(const char *text, int64_t min, int64_t max, int *out, int cap) {
    for (int n = 0; n < cap; text++) {
        char item[24];
        size_t len = strcspn(text, ",");
        int64_t v;
        if (len == 0 || len >= sizeof item) return -1;
        memcpy(item, text, len);
        item[len] = 0;
        if (parse_int(item, min, max, &v) || v < INT32_MIN || v > INT32_MAX) return -1;
        out[n++] = (int)v;
        text += len;
        if (!*text) return n;
    }
    return -1;
}

int parse_shape(const char *text, gqa_config *shape, gqa_type *type) {
    const struct { const char *name; int *value; } fields[] = {
        {"dim", &shape->dim}, {"layers", &shape->n_layers}, {"heads", &shape->n_heads}, {"kv_heads", &shape->n_kv_heads},
        {"ffn", &shape->ffn_dim}, {"vocab", &shape->vocab_size}, {"head_dim", &shape->head_dim},
        {"context", &shape->context_length}, {"window", &shape->window},
    };
    for (const char *p = text; *p;) {
        char item[64];
        size_t len = strcspn(p, ","), known = sizeof fields / sizeof *fields, i;
        char *value = NULL;
        if (len && len < sizeof item) {
            memcpy(item, p, len);
            item[len] = 0;
            value = strchr(item, '=');
        }
        if (!value) return usage_error("--shape %s: expected NAME=VALUE with commas between, found \"%.*s\"", text, (int)len, p), -1;
        *value++ = 0;
        p += len + (p[len] == ',');
        if (!strcmp(item, "type")) {
            int t = gqa_type_from_name(value);
            if (t < 0) return usage_error("--shape: type %s: expected f32, f16, bf16, q8_0, q4_0, q4_k, q6_k, ...", value), -1;
            *type = (gqa_type)t;
            continue;
        }
        for (i = 0; i < known && strcmp(item, fields[i].name); i++) {}
        int64_t v;
        if (i == known)
            return usage_error("--shape: no field \"%s\"; there are dim, layers, heads, kv_heads, ffn, vocab, head_dim, context, "
                               "window, type", item), -1;
        if (parse_int(value, 1, INT32_MAX, &v)) return usage_error("--shape: %s=%s: expected a number from 1 up", item, value), -1;
        *fields[i].value = (int)v;
    }
    return 0;
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

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
}

static int name_length(const opt *o) { return (int)strcspn(o->name, " "); }

static const opt *find_option(const opt *const *tables, const char *word) {
    for (; *tables; tables++)
        for (const opt *o = *tables; o->name; o++)
            if (strlen(word) == (size_t)name_length(o) && !strncmp(word, o->name, strlen(word))) return o;
    return NULL;
}

static int bad_number(const opt *o, const char *text) {
    const char *kind = o->kind == OPT_FLOAT ? "a number" : "a whole number";
    int len = name_length(o);
    if (o->max >= 9e18) return usage_error("%.*s %s: expected %s from %.10g up", len, o->name, text, kind, o->min);
    return usage_error("%.*s %s: expected %s from %.10g to %.10g", len, o->name, text, kind, o->min, o->max);
}

static int set_option(const opt *o, const char *text) {
    int64_t whole, max = o->max >= 9e18 ? INT64_MAX : (int64_t)o->max;
    double number;
    switch (o->kind) {
    case OPT_INT:
        if (parse_int(text, (int64_t)o->min, max, &whole) || whole < INT32_MIN || whole > INT32_MAX) return bad_number(o, text);
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
    case OPT_STRINGS: {
        opt_list *list = o->value;
        int room = (int)(sizeof list->items / sizeof *list->items);
        if (list->n == room) return usage_error("%.*s: at most %d times", name_length(o), o->name, room);
        list->items[list->n++] = text;
        break;
    }
    case OPT_FLAG:
        *(int *)o->value = 1;
        break;
    }
    return -1;
}

int parse_options(int argc, char **argv, const opt *const *tables, const char **positional, int max_positional,
                  int *n_positional, const char *usage) {
    int only_words = 0;
    *n_positional = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || !word[1]) {
            if (*n_positional == max_positional) return usage_error("\"%s\" is one argument too many; usage: %s", word, usage);
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
        const opt *o = find_option(tables, word);
        if (!o) return usage_error("no option %s; usage: %s", word, usage);
        if (o->kind != OPT_FLAG && i + 1 == argc) return usage_error("%s needs an argument: %s", word, o->name);
        int code = set_option(o, o->kind == OPT_FLAG ? NULL : argv[++i]);
        if (code >= 0) return code;
    }
    return -1;
}

/* ---- files, time ------------------------------------------------------------------------------------------------- */

char *read_text(const char *path, size_t *size) {
    int from_stdin = !strcmp(path, "-");
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    char *text = NULL;
    size_t capacity = 0;
    *size = 0;
    if (!f) return fail("%s: %s", path, strerror(errno)), NULL;
    do {
        if (capacity - *size < 2) {
            char *more = realloc(text, capacity = capacity ? capacity * 2 : 65536);
            if (!more) break;
            text = more;
        }
        *size += fread(text + *size, 1, capacity - *size - 1, f);
    } while (!feof(f) && !ferror(f));
    int complete = text && feof(f) && !ferror(f);
    if (!complete) fail("%s: %s", from_stdin ? "standard input" : path, ferror(f) ? strerror(errno) : "no memory for all of it");
    if (!from_stdin) fclose(f);
    if (!complete) {
        free(text);
        return NULL;
    }
    text[*size] = 0;
    return text;
}

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, int n) {
    if (n == 0) return (double)NAN;
    qsort(values, (size_t)n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

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
    for (int i = 0; i < s->n; i++) low = fmin(low, s->values[i]), high = fmax(high, s->values[i]);
    return s->n ? (high - low) / 2 / sample_median(s) : 0;
}

const char *human_bytes(double bytes, char buf[32]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 5) {
        bytes /= 1024;
        unit++;
    }
    snprintf(buf, 32, unit == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return buf;
}
