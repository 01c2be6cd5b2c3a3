/* fuzz_numbers.c: any bytes as numbers and shapes on the command line. Run with -close_fd_mask=2:
 * refusals are printed. */
#include <stdlib.h>
#include <string.h>

#include "../../commands/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[200];
    int64_t i;
    double d;
    int list[8];
    gqa_config shape = {0};
    gqa_type type;
    if (size >= sizeof text) size = sizeof text - 1;
    memcpy(text, data, size);
    text[size] = 0;
    if (parse_int(text, -5, 1000, &i) == 0 && (i < -5 || i > 1000)) abort();
    if (parse_float(text, -1, 2, &d) == 0 && !(d >= -1 && d <= 2)) abort();
    int n = parse_int_list(text, 0, 100, list, 8);
    if (n > 8) abort();
    for (int k = 0; k < n; k++)
        if (list[k] < 0 || list[k] > 100) abort();
    parse_shape(text, &shape, &type);
    return 0;
}
