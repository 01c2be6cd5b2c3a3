/* test.h: a test program is a main that calls CHECK and ends with `return test_end();`. It prints what failed, where
 * and with which values, and last a line "N passed, N failed[, N skipped]" that tests/run.sh adds up. */
#ifndef GQA_TEST_H
#define GQA_TEST_H

#undef NDEBUG
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int test_passed, test_failed, test_skipped;

__attribute__((format(printf, 4, 5), unused))
static int test_check(int ok, const char *file, int line, const char *format, ...) {
    if (ok) {
        test_passed++;
    } else if (test_failed++ < 50) {
        va_list args;
        va_start(args, format);
        printf("%s:%d: FAILED: ", file, line);
        vprintf(format, args);
        printf("\n");
        va_end(args);
    }
    return ok;
}

/* CHECK(condition, format, ...): counts one check; the message tells the values. Returns the condition. */
#define CHECK(condition, ...) test_check(!!(condition), __FILE__, __LINE__, #condition ": " __VA_ARGS__)

/* Whether text holds part, and says what it held when not. */
#define CHECK_HAS(text, part) CHECK(strstr((text), (part)) != NULL, "\"%s\" does not hold \"%s\"", (text), (part))

/* A test that needs data that is not here: shown and counted. */
__attribute__((unused)) static void test_skip(const char *what, const char *why) {
    printf("SKIPPED: %s: %s\n", what, why);
    test_skipped++;
}

/* $GQA_DATA/name in a static buffer, or NULL (and a visible skip) when the variable is not set or the file is absent. */
__attribute__((unused)) static const char *test_data(const char *name) {
    static char path[4][1024];
    static int turn;
    const char *dir = getenv("GQA_DATA");
    if (!dir || !*dir) { test_skip(name, "GQA_DATA is not set"); return NULL; }
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    FILE *f = fopen(p, "rb");
    if (!f) { test_skip(name, "not in GQA_DATA"); return NULL; }
    fclose(f);
    return p;
}

/* Small reproducible random numbers (splitmix64): uniform in [-1, 1). */
__attribute__((unused)) static uint64_t test_random_bits(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
__attribute__((unused)) static float test_random(uint64_t *state) {
    return (float)(test_random_bits(state) >> 40) / 8388608.0f - 1.0f;
}

__attribute__((unused)) static int test_end(void) {
    printf("%d passed, %d failed", test_passed, test_failed);
    if (test_skipped) printf(", %d skipped", test_skipped);
    printf("\n");
    return test_failed ? 1 : 0;
}

/* The larger of two errors; one that is no number is the largest (fmax would pass over it). */
static inline double test_worse(double a, double b) { return a > b || a != a ? a : b; }

#endif
