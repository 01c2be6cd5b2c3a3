/* unicode_table.h: character classes, as sorted ranges. unicode_table.c is made by
 * scripts/make_unicode_table.py. */
#ifndef GQA_UNICODE_TABLE_H
#define GQA_UNICODE_TABLE_H

#include <stdint.h>

typedef struct gqa_range { uint32_t first, last; } gqa_range;
extern const gqa_range gqa_unicode_letters[], gqa_unicode_numbers[], gqa_unicode_marks[];
extern const gqa_range gqa_unicode_punctuation[], gqa_unicode_symbols[];
extern const int gqa_unicode_letters_count, gqa_unicode_numbers_count, gqa_unicode_marks_count;
extern const int gqa_unicode_punctuation_count, gqa_unicode_symbols_count;

/* Whether c is in ranges [n], which are in order. */
static inline int in_ranges(uint32_t c, const gqa_range *ranges, int n) {
    int low = 0, high = n;
    while (low < high) {
        int mid = (low + high) / 2;
        if (ranges[mid].last < c) low = mid + 1;
        else high = mid;
    }
    return low < n && ranges[low].first <= c;
}

#endif
