# make            build ./run
# make demo       a story from the model that ships
# make test       run every test (offline)
# make asan       the tests under AddressSanitizer and UBSan
# make tsan       threads under ThreadSanitizer
# make coverage   the tests, then the share of lines that they ran, by file
# make lint       layers, line widths, gcc's conversion warnings, cppcheck, clang-tidy
# make fuzz       libFuzzer targets, in build-fuzz
# make lib        libgqa.a and libgqa.so in BUILD/lib
# make install    and make uninstall; PREFIX=/usr/local  DESTDIR=dir  (more in lib.mk)
# make web        the web page, BUILD/web/gqa.html; needs Debian's emscripten and node-acorn
# make dist       the library as one gqa.h and one gqa.c, in BUILD/dist
#
# Variables: CC=clang  OMP=0 (no OpenMP; the default on macOS and Windows)  BUILD=dir
#            WERROR=1  V=1 (show commands)
#            CFLAGS, CPPFLAGS, LDFLAGS of yours (also from the environment)  CFLAGS_EXTRA=...
#            GQA_DATA=dir (test data, see scripts/get-test-data.sh)
# What was built with other flags or another compiler is built again.

CC      = gcc
BUILD   = build
MACHINE := $(shell $(CC) -dumpmachine)
WINDOWS := $(findstring mingw,$(MACHINE))
MACOS   := $(or $(findstring darwin,$(MACHINE)),$(findstring macos,$(MACHINE)))
FREEBSD := $(findstring freebsd,$(MACHINE))
EXE     = $(if $(WINDOWS),.exe)
OMP     = $(if $(WINDOWS)$(MACOS),0,1)
CFLAGS ?= -O2 -g -fno-asynchronous-unwind-tables
OPT     = $(CFLAGS)
WARN    = -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wdouble-promotion
STD     = -std=c11 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 \
          $(if $(MACOS),-D_DARWIN_C_SOURCE)
FLAGS   = $(STD) $(CPPFLAGS) $(OPT) $(ALIGN) -ffp-contract=off -fno-math-errno $(WARN) $(THREADS)
LDLIBS  = -lm
# Relocations as a table of bits, which glibc 2.36 and later read: 4% of the program's size; and no
# pages between code and constants.
RELR   := $(shell $(CC) -E -dM -include features.h -xc /dev/null 2>/dev/null | \
    awk '/__GLIBC_MINOR__/ && $$3 >= 36 {print "-Wl,-z,pack-relative-relocs,-z,noseparate-code"}')
# GCC pads functions and targets of jumps: 1% of the program's size
IS_CLANG := $(shell $(CC) -E -dM -xc /dev/null 2>/dev/null | grep __clang__)
SMALLER := $(if $(IS_CLANG),-Os,$(shell $(CC) -Oz -E -xc /dev/null >/dev/null 2>&1 \
               && echo -Oz || echo -Os)) # gcc has -Oz from 12 on
ALIGN   = $(if $(IS_CLANG),,$(patsubst %,-falign-%=1,functions jumps labels))
OPENMP  = -fopenmp
THREADS = $(if $(filter 1,$(OMP)),$(OPENMP),$(if $(WINDOWS),,-pthread))
ifneq ($(and $(MACOS),$(filter 1,$(OMP))),) # Homebrew's, for the system's clang
LIBOMP := $(shell brew --prefix libomp)
OPENMP  = -Xpreprocessor -fopenmp -I$(LIBOMP)/include
LDLIBS += -L$(LIBOMP)/lib -lomp
endif
ifneq ($(WINDOWS),)
LDFLAGS += -static
endif
ifeq ($(WERROR),1)
FLAGS += -Werror
endif
# x87 registers hold more bits than a float: sums would depend on which values stay in them
ifneq ($(filter i386% i486% i586% i686%,$(MACHINE)),)
FLAGS += -msse2 -mfpmath=sse
endif
ifneq ($(findstring -static,$(LDFLAGS)),)
FLAGS += -DGQA_STATIC
endif
FLAGS += $(CFLAGS_EXTRA)

CORE     = base kernels formats vocab weights session chat
CONSOLE  = base/console_posix.c base/console_windows.c
CORE_SRC = $(filter-out run.c $(CONSOLE),$(wildcard *.c) $(wildcard $(CORE:%=%/*.c)))
LIB_SRC  = $(CORE_SRC) $(CONSOLE) $(wildcard convert/*.c train/*.c)
RUN_SRC  = run.c $(wildcard commands/*.c)
# Tests that fork; that wrap functions by a linker for ELF; that bind threads to CPUs as on Linux.
ABSENT   = $(if $(WINDOWS),interrupts) $(if $(WINDOWS)$(MACOS),alloc) \
           $(if $(WINDOWS)$(MACOS)$(FREEBSD),threads)
TEST_SRC = $(filter-out $(ABSENT:%=tests/test_%.c),$(wildcard tests/test_*.c))
TEST_LIB = tests/reference.c tests/reference_types.c tests/unpack.c
LIB_OBJ  = $(LIB_SRC:%.c=$(BUILD)/%.o)
RUN_OBJ  = $(RUN_SRC:%.c=$(BUILD)/%.o)
TEST_OBJ = $(TEST_LIB:%.c=$(BUILD)/%.o)
FUZZERS  = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
TESTS    = $(TEST_SRC:%.c=$(BUILD)/%$(EXE)) $(FUZZERS:%=$(BUILD)/tests/test_fuzz_%$(EXE))

# A rule shows a short line, with V=1 its commands, with make -s nothing.
Q    = $(if $(filter 1,$(V)),,@)
mute = $(filter 1,$(V))$(findstring s,$(firstword -$(MAKEFLAGS)))
say  = $(if $(mute),,@echo "$(1) $(or $(2),$(@:$(BUILD)/%=%))")
LINK = $(Q)$(CC) $(FLAGS) $(RELR) $(LDFLAGS) $(WRAP) -o $@ $^ $(LDLIBS)

# Some tests start threads of their own.
$(TESTS): LDLIBS += $(if $(WINDOWS),-lpthread)

all: run
run: $(BUILD)/run$(EXE) # macOS kills a program whose file was written over: hence rm
	$(Q)rm -f $@$(EXE)
	$(Q)cp $< $@$(EXE)
$(BUILD)/run$(EXE): $(RUN_OBJ) $(BUILD)/libgqa.a
	$(call say,LD)
	$(LINK)
$(BUILD)/libgqa.a: $(LIB_OBJ)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^
$(BUILD)/tests/test_%$(EXE): $(BUILD)/tests/test_%.o $(TEST_OBJ) $(BUILD)/libgqa.a
	$(call say,LD)
	$(LINK)
SCORE_OBJ = $(patsubst %,$(BUILD)/%.o,tests/test_score commands/score commands/common \
              commands/shape)
$(BUILD)/tests/test_score$(EXE): $(SCORE_OBJ) $(BUILD)/libgqa.a
	$(call say,LD)
	$(LINK)
FUZZ_LIB = $(patsubst %,$(BUILD)/%.o,tests/fuzz/replay commands/common commands/shape)
$(BUILD)/tests/test_fuzz_%$(EXE): $(BUILD)/tests/fuzz/fuzz_%.o $(FUZZ_LIB) $(BUILD)/libgqa.a
	$(call say,LD)
	$(LINK)
INTERRUPTS = $(BUILD)/tests/test_interrupts
$(INTERRUPTS): $(INTERRUPTS).o $(BUILD)/commands/common.o $(BUILD)/libgqa.a
	$(call say,LD)
	$(LINK)
ALLOCATORS = malloc calloc realloc aligned_alloc free mmap mmap64 munmap
$(BUILD)/tests/test_alloc: WRAP = $(ALLOCATORS:%=-Wl,--wrap=%)
# What computes much is compiled for speed, the rest for size, unless OPT is yours.
FAST  = sampler.c tokenizer.c base/hash.c vocab/bpe.c \
        $(filter-out $(patsubst %,kernels/%.c,isa_scalar attention bf16 cpu dispatch threads \
                                              tensor),$(wildcard kernels/*.c))
SMALL = $(filter-out $(FAST),$(LIB_SRC) $(RUN_SRC))
$(SMALL:%.c=$(BUILD)/%.o): SIZE = $(patsubst -O2,$(SMALLER),$(filter -O2,$(OPT)))
$(BUILD)/%.o: %.c Makefile $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) $(SIZE) -MMD -MP -c -o $@ $<
$(BUILD)/examples/%: examples/%.c $(BUILD)/libgqa.a
	$(call say,LD)
	@mkdir -p $(@D)
	$(LINK) -pthread

# Changes when the compiler or its flags do.
ALL_FLAGS = $(CC) $(FLAGS) $(LDFLAGS) $(LDLIBS) $(if $(MACOS),"$(LIBDIR)")
$(BUILD)/flags: always
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(ALL_FLAGS))' >$@.new
	@cmp -s $@.new $@ || cp $@.new $@
print-flags:
	@printf '%s\n' '$(subst ','\'',$(ALL_FLAGS))'

tests: $(BUILD)/run$(EXE) $(TESTS)
test: tests
	$(Q)BUILD=$(BUILD) sh tests/run.sh
demo: run
	./run models/stories-gqa.gguf -i "Once upon a time" -n 250 -t 0.8
clean:
	rm -rf build build-* run run.exe

include lib.mk tests/checks.mk
.PHONY: all always demo tests test clean print-flags
.SECONDARY:
-include $(shell find $(BUILD) build-fuzz -name '*.d' 2>/dev/null)
