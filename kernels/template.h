/* template.h: C templates.
 *
 * A function marked TEMPLATE is a C template: its leading int type, int nc arguments are constants
 * where it is called, and every branch on them vanishes (zstd's FORCE_INLINE_TEMPLATE). It must be
 * inlined for that. UNROLL stands before a loop with constant bounds that becomes straight code, so
 * that the arrays it indexes stay in registers. Included by every set of kernels anew. */
#define TEMPLATE static inline __attribute__((always_inline))
#ifdef GQA_SMALL_CODE /* plain C: six times smaller, and rarely what anyone waits for */
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 12")
#endif
