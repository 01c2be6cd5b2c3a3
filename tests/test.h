/* test.h: a test program is a list of named cases:
 *
 *     int main(int argc, char **argv) {
 *         test_start(argc, argv);
 *         TEST("rewind") {
 *             CHECK(gqa_session_rewind(s, 3, NULL) == 0, "position %d", gqa_session_position(s));
 *         }
 *         return test_end();
 *     }
 *
 * It prints which checks failed, where and with which values, and at its end the number of checks
 * and "N passed, N failed[, N skipped]" in cases, which tests/run.sh adds up. -v also prints each
 * case with its number of checks; names as arguments run the cases of these names alone ("neon: *":
 * of all names with this beginning), and it fails when there are none. A case fails without a name,
 * with that of an earlier one, or if it checks and skips nothing. */
#ifndef GQA_TEST_H
#define GQA_TEST_H

#undef NDEBUG
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/os.h"

/* The one place where tests ask for the system: ON_WINDOWS in their code, test_mkdir. */
#ifdef _WIN32
#include <io.h>
enum { ON_WINDOWS = 1 };
#define test_mkdir(path) mkdir(path)
#else
#include <sys/stat.h>
enum { ON_WINDOWS = 0 };
#define test_mkdir(path) mkdir(path, 0700)
#endif

static struct {
    int passed, failed, skipped;      /* cases */
    int checks, failed_checks;        /* of all cases */
    char name[128];                   /* the case that runs; "": none */
    char names[1000][128];            /* [n_names] of all cases so far */
    int n_names;
    int case_checks, case_failed, case_skipped;
    int verbose, n_wanted, n_started;
    char **wanted;                    /* [n_wanted] names given on the command line */
} test;

__attribute__((unused)) static void test_start(int argc, char **argv) {
    gqa_os_start(&argc, &argv);
    if (argc > 1 && !strcmp(argv[1], "-v")) test.verbose = 1;
    test.wanted = argv + 1 + test.verbose;
    test.n_wanted = argc - 1 - test.verbose;
}

GQA_PRINTF(4, 5) __attribute__((unused))
static int test_check(int ok, const char *file, int line, const char *format, ...) {
    if (!test.name[0]) snprintf(test.name, sizeof test.name, "(outside of cases)");
    test.checks++;
    test.case_checks++;
    if (!ok) {
        test.failed_checks++;
        test.case_failed++;
    }
    if (!ok && test.case_failed <= 20) {
        va_list args;
        va_start(args, format);
        printf("%s:%d: FAILED: ", file, line);
        vprintf(format, args);
        printf("\n");
        va_end(args);
    }
    return ok;
}

/* CHECK(condition, format, ...): counts one check; the message gives the values. Returns the
 * condition. */
#define CHECK(condition, ...) \
    test_check(!!(condition), __FILE__, __LINE__, #condition ": " __VA_ARGS__)

/* Whether text holds part, which must not be empty, and says what it held when not. */
#define CHECK_HAS(text, part) \
    CHECK((part)[0] && strstr((text), (part)) != NULL, "\"%s\" does not hold \"%s\"", (text), \
          (part))

static void test_case_end(void) {
    if (!test.name[0]) return;
    if (!test.case_checks && !test.case_skipped) test_check(0, __FILE__, __LINE__, "no checks");
    if (test.verbose || test.case_failed)
        printf("%s %s (%d checks)\n", test.case_failed ? "FAILED" : "ok    ", test.name,
               test.case_checks);
    if (test.case_failed) test.failed++;
    else if (test.case_checks && test.name[0] != '(') test.passed++; /* a case, not skipped */
    test.name[0] = 0;
    test.case_checks = test.case_failed = test.case_skipped = 0;
}

/* Keeps the name of a case. Returns whether there is room for it, and no case had it before. */
static int test_name_is_new(const char *name) {
    const int max_names = sizeof test.names / sizeof test.names[0];
    if (!name[0] || test.n_names == max_names) return 0;
    char *kept = test.names[test.n_names];
    snprintf(kept, sizeof test.names[0], "%s", name);
    for (int i = 0; i < test.n_names; i++)
        if (!strcmp(test.names[i], kept)) return 0;
    test.n_names++;
    return 1;
}

static int test_is_named(const char *name, const char *wanted) {
    const size_t n = strlen(wanted);
    if (n && wanted[n - 1] == '*') return !strncmp(name, wanted, n - 1);
    return !strcmp(name, wanted);
}

/* Begins a case, and ends the one before. Returns whether it shall run. */
__attribute__((unused)) static int test_case(const char *name) {
    test_case_end();
    int wanted = test.n_wanted == 0;
    for (int i = 0; i < test.n_wanted; i++) wanted |= test_is_named(name, test.wanted[i]);
    if (wanted) snprintf(test.name, sizeof test.name, "%s", name);
    test.n_started += wanted;
    if (!test_name_is_new(name))
        test_check(0, __FILE__, __LINE__, "\"%s\" is empty or the name of an earlier case", name);
    return wanted;
}
#define TEST(name) if (test_case(name))

/* Whether an emulator runs this (see run.sh), about fifty times slower: a test that computes for
 * long leaves out what differs only in numbers. */
__attribute__((unused)) static int test_is_emulated(void) {
    const char *emulator = getenv("EMULATOR");
    return emulator && *emulator;
}

/* A test that needs data that is not here: shown and counted. */
__attribute__((unused)) static void test_skip(const char *what, const char *why) {
    printf("SKIPPED: %s: %s\n", what, why);
    test.skipped++;
    test.case_skipped++;
}

/* $GQA_DATA/name in a static buffer, or NULL (and a visible skip) when the variable is not set or
 * the file is absent. */
__attribute__((unused)) static const char *test_data(const char *name) {
    static char path[4][1024];
    static int next;
    const char *dir = getenv("GQA_DATA");
    if (!dir || !*dir) {
        test_skip(name, "GQA_DATA is not set");
        return NULL;
    }
    char *p = path[next++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    FILE *f = fopen(p, "rb");
    if (!f) {
        test_skip(name, "not in GQA_DATA");
        return NULL;
    }
    fclose(f);
    return p;
}

/* A path of this process's own, where the system has temporary files: name is its end. */
enum { TEST_PATH = 256 };
__attribute__((unused)) static void test_path(char path[TEST_PATH], const char *name) {
    const char *folder = getenv("TMPDIR");
    if (!folder) folder = getenv("TEMP");
    snprintf(path, TEST_PATH, "%s/gqa-test-%ld-%s", folder ? folder : "/tmp", gqa_os_process(),
             name);
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
    test_case_end();
    printf("%d checks, %d failed\n", test.checks, test.failed_checks);
    const int none = test.n_wanted && !test.n_started;
    if (none) printf("no case has that name (-v lists them)\n");
    printf("%d passed, %d failed", test.passed, test.failed);
    if (test.skipped) printf(", %d skipped", test.skipped);
    printf("\n");
    return test.failed || none ? 1 : 0;
}

/* The larger of two errors; one that is no number is the largest (fmax would pass over it). */
static inline double test_worse(double a, double b) { return a > b || a != a ? a : b; }

#endif
