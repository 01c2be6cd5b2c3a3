/* pages.c: memory from the system in whole pages. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */
#include <sys/mman.h>

#include "base.h"

void *gqa_pages_alloc(size_t size, int huge) {
    if (size == 0) size = 1;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) madvise(p, size, MADV_HUGEPAGE);
#else
    (void)huge;
#endif
    return p;
}

void gqa_pages_free(void *p, size_t size) {
    if (p) munmap(p, size ? size : 1);
}
