# make            build ./run            make test     run every test (offline)
# make asan       the tests under AddressSanitizer and UBSan
# Variables: CC=clang   OMP=0 (no OpenMP)   BUILD=dir   WERROR=1   CFLAGS_EXTRA=...   GQA_DATA=dir (test data)

CC      = gcc
BUILD   = build
OMP     = 1
OPT     = -O3 -g
WARN    = -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wdouble-promotion
CFLAGS  = -std=c11 -D_POSIX_C_SOURCE=200809L $(OPT) -ffp-contract=off -fno-math-errno $(WARN)
LDLIBS  = -lm
ifeq ($(OMP),1)
CFLAGS += -fopenmp
endif
ifeq ($(WERROR),1)
CFLAGS += -Werror
endif
CFLAGS += $(CFLAGS_EXTRA)

LIB_SRC  = $(filter-out run.c,$(wildcard *.c)) $(wildcard kernels/*.c convert/*.c train/*.c)
RUN_SRC  = run.c $(wildcard commands/*.c)
TEST_SRC = $(wildcard tests/test_*.c)
TEST_LIB = $(filter-out $(TEST_SRC),$(wildcard tests/*.c)) commands/template.c
LIB_OBJ  = $(LIB_SRC:%.c=$(BUILD)/%.o)
RUN_OBJ  = $(RUN_SRC:%.c=$(BUILD)/%.o)
TESTS    = $(TEST_SRC:%.c=$(BUILD)/%)

all: run
run: $(BUILD)/run
	cp $< $@
$(BUILD)/run: $(RUN_OBJ) $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/libgqa.a: $(LIB_OBJ)
	rm -f $@
	$(AR) rcs $@ $^
$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(TEST_LIB:%.c=$(BUILD)/%.o) $(BUILD)/libgqa.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

test: $(BUILD)/run $(TESTS)
	BUILD=$(BUILD) sh tests/run.sh
asan:
	$(MAKE) test BUILD=build-asan OPT="-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
clean:
	rm -rf build build-asan run

.PHONY: all test asan clean
.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(RUN_OBJ:.o=.d) $(TESTS:=.d) $(TEST_LIB:%.c=$(BUILD)/%.d)
