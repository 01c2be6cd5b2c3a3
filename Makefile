# make            build ./run      make demo   a story from the model that ships      make test   run every test (offline)
# make asan       the tests under AddressSanitizer and UBSan      make tsan   threads under ThreadSanitizer
# make lib        libgqa.a and libgqa.so in BUILD/lib      make install PREFIX=dir      make dist   gqa.h and gqa.c in BUILD/dist
# Variables: CC=clang   OMP=0 (no OpenMP)   BUILD=dir   WERROR=1   CFLAGS_EXTRA=...   GQA_DATA=dir (test data)

CC      = gcc
BUILD   = build
OMP     = 1
OPT     = -O2 -g -fno-asynchronous-unwind-tables
WARN    = -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wdouble-promotion
CFLAGS  = -std=c11 -D_POSIX_C_SOURCE=200809L -D_FILE_OFFSET_BITS=64 $(OPT) -ffp-contract=off -fno-math-errno $(WARN)
LDLIBS  = -lm
ifeq ($(OMP),1)
CFLAGS += -fopenmp
endif
ifeq ($(WERROR),1)
CFLAGS += -Werror
endif
ifneq ($(filter i386% i486% i586% i686%,$(shell $(CC) -dumpmachine)),)
CFLAGS += -msse2 -mfpmath=sse # x87 registers hold more bits than a float, and sums would depend on which values stay in them
endif
ifneq ($(findstring -static,$(LDFLAGS)),)
CFLAGS += -DGQA_STATIC
endif
CFLAGS += $(CFLAGS_EXTRA)

CORE     = base kernels formats vocab weights session chat
CORE_SRC = $(filter-out run.c,$(wildcard *.c)) $(wildcard $(CORE:%=%/*.c))
LIB_SRC  = $(CORE_SRC) $(wildcard convert/*.c train/*.c)
RUN_SRC  = run.c $(wildcard commands/*.c)
TEST_SRC = $(wildcard tests/test_*.c)
TEST_LIB = tests/reference.c
LIB_OBJ  = $(LIB_SRC:%.c=$(BUILD)/%.o)
RUN_OBJ  = $(RUN_SRC:%.c=$(BUILD)/%.o)
FUZZERS  = $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
TESTS    = $(TEST_SRC:%.c=$(BUILD)/%) $(FUZZERS:%=$(BUILD)/tests/test_fuzz_%)

all: run
run: $(BUILD)/run
	cp $< $@
$(BUILD)/run: $(RUN_OBJ) $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(WRAP) -o $@ $^ $(LDLIBS)
$(BUILD)/libgqa.a: $(LIB_OBJ)
	rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(WRAP) -o $@ $^ $(LDLIBS)
$(BUILD)/tests/test_fuzz_%: $(BUILD)/tests/fuzz/fuzz_%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/commands/common.o $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(WRAP) -o $@ $^ $(LDLIBS)
TSAN_TESTS = $(patsubst %,$(BUILD)/tsan/test_%,team forward batch train)
$(BUILD)/tsan/test_%: $(BUILD)/tests/test_%.o $(BUILD)/tests/pthread_team.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(BUILD)/libgqa.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -pthread
$(BUILD)/tests/test_alloc: WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=free,--wrap=mmap,--wrap=mmap64,--wrap=munmap
$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

tests: $(BUILD)/run $(TESTS)
test: tests
	BUILD=$(BUILD) sh tests/run.sh
asan:
	$(MAKE) test BUILD=build-asan OPT="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
tsan:
	$(MAKE) BUILD=build-tsan OMP=0 OPT="-O1 -g -fsanitize=thread" tsan-run
tsan-run: $(BUILD)/examples/sessions $(BUILD)/examples/cancel $(TSAN_TESTS)
	$(BUILD)/examples/sessions models/stories-gqa.gguf
	$(BUILD)/examples/cancel models/stories-gqa.gguf 200
	for test in $(TSAN_TESTS); do $$test || exit 1; done

# The library: the runtime alone, without training and conversion. Only gqa_ symbols leave it.
VERSION  = $(shell sed -n 's/.*GQA_VERSION "\(.*\)"/\1/p' model.h)
CORE_OBJ = $(CORE_SRC:%.c=$(BUILD)/lib/%.o)
PREFIX   = /usr/local
OBJCOPY  = objcopy
lib: $(BUILD)/lib/libgqa.a $(BUILD)/lib/libgqa.so
$(BUILD)/lib/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -MMD -MP -c -o $@ $<
$(BUILD)/lib/libgqa.a: $(CORE_OBJ)
	$(CC) -r -nostdlib -o $(BUILD)/lib/gqa-all.o $^
	$(OBJCOPY) -w --keep-global-symbol='gqa_*' $(BUILD)/lib/gqa-all.o
	rm -f $@
	$(AR) rcs $@ $(BUILD)/lib/gqa-all.o
$(BUILD)/lib/libgqa.so: $(CORE_OBJ)
	printf '{ global: gqa_*; local: *; };\n' >$(BUILD)/lib/exports
	$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,--version-script=$(BUILD)/lib/exports -Wl,-soname,libgqa.so -o $@ $^ $(LDLIBS)
$(BUILD)/examples/%: examples/%.c $(BUILD)/libgqa.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -pthread
install: $(BUILD)/run lib
	mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/share/man/man1
	cp $(BUILD)/run $(DESTDIR)$(PREFIX)/bin/gqa-run
	cp model.h $(DESTDIR)$(PREFIX)/include/gqa.h
	cp $(BUILD)/lib/libgqa.a $(BUILD)/lib/libgqa.so $(DESTDIR)$(PREFIX)/lib/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@OMP@|$(if $(filter 1,$(OMP)),-fopenmp)|' docs/gqa.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/gqa.pc
	cp docs/gqa-run.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	cp completions/run.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/gqa-run
	cp completions/_run $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_gqa-run
# soak: a million tokens over many sessions, at most 15 minutes; not part of make test.
$(BUILD)/soak: tests/soak.c $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(WRAP) -o $@ $^ $(LDLIBS)
soak: $(BUILD)/soak
	$(BUILD)/soak 1000000 900
# latency: how soon a 1 B model obeys a cancel, in loading, prefill and decoding; needs 3 GB.
$(BUILD)/latency: tests/latency.c $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -pthread
latency: $(BUILD)/latency
	$(BUILD)/latency
# lint: gcc's conversion warnings in everything that reads files or numbers, cppcheck, clang-tidy (.clang-tidy).
PARSERS = tokenizer.c session_file.c commands/common.c $(wildcard base/*.c formats/*.c vocab/*.c)
LINTED  = $(filter-out kernels/% vocab/unicode_table.c,$(LIB_SRC) $(RUN_SRC)) kernels/team.c kernels/pack.c kernels/tensor.c kernels/quantize.c
lint: $(BUILD)/run
	python3 scripts/check-layers.py
	python3 scripts/make-usage.py --check $(BUILD)/run
	$(CC) -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -Wall -Wextra -Wconversion -Wsign-conversion -Werror -fsyntax-only $(PARSERS)
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --suppress=missingInclude --suppress=invalidPointerCast \
	    --suppress=invalidFunctionArg --suppress=legacyUninitvar --suppress=uninitStructMember --error-exitcode=1 $(LINTED)
	clang-tidy --quiet $(LINTED) -- -std=c11 -D_POSIX_C_SOURCE=200809L
# libFuzzer targets: make fuzz, then build-fuzz/fuzz_model CORPUS tests/fuzz/seeds/model
FUZZ_FLAGS = -std=c11 -D_POSIX_C_SOURCE=200809L -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -DGQA_ONLY_SCALAR
FUZZ_OBJ = $(patsubst %.c,build-fuzz/%.o,$(filter-out kernels/isa_avx% kernels/isa_neon%,$(CORE_SRC)) commands/common.c)
fuzz: $(FUZZERS:%=build-fuzz/fuzz_%)
build-fuzz/%.o: %.c
	@mkdir -p $(@D)
	clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
build-fuzz/%: tests/fuzz/%.c $(FUZZ_OBJ)
	clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ -lm
demo: run
	./run models/stories-gqa.gguf -i "Once upon a time" -n 250 -t 0.8
print-sources:
	@echo $(CORE_SRC)
dist:
	python3 scripts/amalgamate.py $(BUILD)/dist
clean:
	rm -rf build build-* run

.PHONY: all demo tests test asan tsan tsan-run soak latency lint fuzz lib install dist print-sources clean
.SECONDARY:
-include $(FUZZ_OBJ:.o=.d) $(LIB_OBJ:.o=.d) $(CORE_OBJ:.o=.d) $(RUN_OBJ:.o=.d) $(TESTS:=.d) $(TEST_LIB:%.c=$(BUILD)/%.d) $(BUILD)/tests/pthread_team.d
