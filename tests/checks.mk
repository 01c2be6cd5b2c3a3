# checks.mk: the tests under sanitizers, coverage, lint, fuzzing and what is too slow for make test.
# Included by the Makefile.

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Tests of scripts and of builds of their own run nothing that is sanitized; real models would take
# minutes; golden, paper, export_hf and the others of `make asan` compute for long by what other
# tests run as well (forward: foreign, architectures, batch): those others are for `make asan-all`.
# With threads checked, all of test_forward takes three minutes: `make tsan FORWARD=`.
LEFT_OUT = library lint docs completions scripts get_model get_test_data web real golden paper \
           export_hf
asan: export SKIP = $(LEFT_OUT) cli_compare cli_perplexity cli_train training speculate forward
asan-all: export SKIP = $(LEFT_OUT)
asan asan-all:
	$(Q)$(MAKE) test BUILD=build-asan OPT="-O1 -g1 $(ASAN)"
tsan:
	$(Q)$(MAKE) tsan-run BUILD=build-tsan OMP=0 OPT="-O1 -g1 -fsanitize=thread"
TSAN_TESTS = $(patsubst %,$(BUILD)/tests/test_%,team threads batch trainer)
FORWARD ?= "llama *" "longer*" "sliding*" "f16*" "q8_0*" "q4_0*" q4_k
tsan-run: $(BUILD)/examples/sessions $(BUILD)/examples/cancel $(TSAN_TESTS) \
          $(BUILD)/tests/test_forward
	$(BUILD)/examples/sessions tests/models/stories-gqa.gguf
	$(BUILD)/examples/cancel tests/models/stories-gqa.gguf 200
	for test in $(TSAN_TESTS); do $$test || exit 1; done
	$(BUILD)/tests/test_forward $(FORWARD)
coverage:
	$(Q)$(MAKE) test BUILD=build-coverage OPT="-O1 -g --coverage"
	$(Q)find build-coverage -name '*.gcno' ! -path '*/tests/*' | xargs gcov -n 2>/dev/null | \
	    awk -F"[':%]" '/^File/ {f = $$2} /^Lines/ && f !~ "/usr" {print $$2 "% " f}' | sort -u

# A million tokens over many sessions, at most 15 minutes; not part of make test.
$(BUILD)/soak: tests/soak.c $(BUILD)/libgqa.a
	$(LINK)
soak: $(BUILD)/soak
	$(BUILD)/soak 1000000 900
# How soon a 1 B model obeys a cancel, in loading, prefill and decoding; needs 3 GB.
$(BUILD)/latency: tests/latency.c $(BUILD)/libgqa.a
	$(LINK) -pthread
latency: $(BUILD)/latency
	$(BUILD)/latency

# gcc's conversion warnings in everything that reads files or numbers; .clang-tidy lists its checks.
PARSERS  = tokenizer.c session_file.c commands/common.c commands/shape.c \
           $(wildcard base/*.c formats/*.c vocab/*.c chat/jinja*.c)
LINTED   = $(filter-out kernels/isa_% vocab/unicode_table.c,$(LIB_SRC) $(RUN_SRC))
SUPPRESS = missingInclude invalidPointerCast invalidFunctionArg legacyUninitvar uninitStructMember
lint: $(BUILD)/run
	python3 scripts/check-layers.py . $(BUILD)
	python3 scripts/make-usage.py --check $(BUILD)/run
	python3 scripts/check-lines.py
	$(CC) $(STD) -O1 -Wall -Wextra -Wconversion -Wsign-conversion -Werror -fsyntax-only $(PARSERS)
	cppcheck --quiet -j 2 --std=c11 --enable=warning,performance,portability --error-exitcode=1 \
	    $(SUPPRESS:%=--suppress=%) $(LINTED)
	printf '%s\n' $(LINTED) | xargs -P 2 -n 8 \
	    sh -c 'clang-tidy --quiet $(TIDY) "$$@" -- $(STD)' sh

# make fuzz, then build-fuzz/fuzz_model CORPUS tests/fuzz/seeds/model
FUZZ_FLAGS = $(STD) -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
             -DGQA_ONLY_SCALAR
FUZZ_SRC   = $(filter-out kernels/isa_avx% kernels/isa_neon%,$(CORE_SRC)) $(CONSOLE) \
             commands/common.c commands/shape.c $(wildcard convert/*.c)
FUZZ_OBJ   = $(FUZZ_SRC:%.c=build-fuzz/%.o)
fuzz: $(FUZZERS:%=build-fuzz/fuzz_%)
build-fuzz/%.o: %.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<
build-fuzz/%: tests/fuzz/%.c $(FUZZ_OBJ)
	$(call say,LD)
	$(Q)clang $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ -lm -pthread
print-fuzzers:
	@echo $(FUZZERS)
.PHONY: asan asan-all tsan tsan-run coverage soak latency lint fuzz print-fuzzers
