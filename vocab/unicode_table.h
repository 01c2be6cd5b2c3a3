/* unicode_table.h: character classes. unicode_table.c is made by scripts/make_unicode_table.py. */
#ifndef GQA_UNICODE_TABLE_H
#define GQA_UNICODE_TABLE_H

#include <stdint.h>

/* General categories, by their first letter. */
enum {
    UNICODE_OTHER, UNICODE_LETTER, UNICODE_NUMBER, UNICODE_MARK, UNICODE_PUNCTUATION,
    UNICODE_SYMBOL
};

/* In order: the first character of each run of one class << 3 | the class. */
extern const uint32_t gqa_unicode_runs[];
extern const int gqa_unicode_n_runs;

static inline int unicode_class(uint32_t c) {
    int low = 0, high = gqa_unicode_n_runs; /* the run is one of low to high - 1 */
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (gqa_unicode_runs[mid] >> 3 <= c) low = mid;
        else high = mid;
    }
    return gqa_unicode_runs[low] & 7;
}

#endif
