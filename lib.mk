# lib.mk: the library as others get it: the runtime alone, without training and conversion. Only
# gqa_ symbols leave it. Included by the Makefile, which has the variables CORE_SRC and CFLAGS.

VERSION  = $(shell sed -n 's/.*GQA_VERSION "\(.*\)"/\1/p' model.h)
SONAME   = libgqa.so.0
PREFIX   = /usr/local
OBJCOPY  = objcopy
CORE_OBJ = $(CORE_SRC:%.c=$(BUILD)/lib/%.o)
ROOT     = $(DESTDIR)$(PREFIX)
BASH_DIR = share/bash-completion/completions
ZSH_DIR  = share/zsh/site-functions
FOLDERS  = bin include lib/pkgconfig share/man/man1 $(BASH_DIR) $(ZSH_DIR)
INSTALLED = bin/gqa-run include/gqa.h lib/libgqa.a lib/libgqa.so lib/$(SONAME) \
            lib/pkgconfig/gqa.pc share/man/man1/gqa-run.1 $(BASH_DIR)/gqa-run $(ZSH_DIR)/_gqa-run

lib: $(BUILD)/lib/libgqa.a $(BUILD)/lib/libgqa.so
$(BUILD)/lib/%.o: %.c Makefile
	$(call say,CC,$< (PIC))
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -fPIC -MMD -MP -c -o $@ $<
$(BUILD)/lib/libgqa.a: $(CORE_OBJ)
	$(call say,AR)
	$(Q)$(CC) -r -nostdlib -o $(BUILD)/lib/gqa-all.o $^
	$(Q)$(OBJCOPY) -w --keep-global-symbol='gqa_*' $(BUILD)/lib/gqa-all.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(BUILD)/lib/gqa-all.o
$(BUILD)/lib/$(SONAME): $(CORE_OBJ)
	$(call say,LD)
	@printf '{ global: gqa_*; local: *; };\n' >$(BUILD)/lib/exports
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,--version-script=$(BUILD)/lib/exports \
	    -Wl,-soname,$(SONAME) -o $@ $^ $(LDLIBS)
$(BUILD)/lib/libgqa.so: $(BUILD)/lib/$(SONAME)
	@ln -sf $(SONAME) $@

install: $(BUILD)/run lib
	mkdir -p $(FOLDERS:%=$(ROOT)/%)
	cp $(BUILD)/run $(ROOT)/bin/gqa-run
	cp model.h $(ROOT)/include/gqa.h
	cp -P $(BUILD)/lib/libgqa.a $(BUILD)/lib/libgqa.so $(BUILD)/lib/$(SONAME) $(ROOT)/lib/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@THREADS@|$(THREADS)|' \
	    docs/gqa.pc.in >$(ROOT)/lib/pkgconfig/gqa.pc
	cp docs/gqa-run.1 $(ROOT)/share/man/man1/
	cp completions/run.bash $(ROOT)/$(BASH_DIR)/gqa-run
	cp completions/_run $(ROOT)/$(ZSH_DIR)/_gqa-run
uninstall:
	rm -f $(INSTALLED:%=$(ROOT)/%)

dist:
	python3 scripts/amalgamate.py $(BUILD)/dist
print-sources:
	@echo $(CORE_SRC)
.PHONY: lib install uninstall dist print-sources
