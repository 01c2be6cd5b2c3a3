# lib.mk: the library as others get it: the runtime alone, without training and conversion. Only
# gqa_ symbols leave it. Included by the Makefile, which has the variables CORE_SRC and FLAGS.

VERSION  = $(shell sed -n 's/.*GQA_VERSION "\(.*\)"/\1/p' model.h)
SONAME   = $(if $(WINDOWS),libgqa.dll,$(if $(MACOS),libgqa.0.dylib,libgqa.so.0))
DEVNAME  = $(if $(WINDOWS),libgqa.dll.a,$(if $(MACOS),libgqa.dylib,libgqa.so))
OBJCOPY  = objcopy
NM       = nm
CORE_OBJ = $(CORE_SRC:%.c=$(BUILD)/lib/%.o)

# Where things go; each may be set, and may have spaces in it. DESTDIR comes before them all.
PREFIX     = /usr/local
BINDIR     = $(PREFIX)/bin
LIBDIR     = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
DATADIR    = $(PREFIX)/share
MANDIR     = $(DATADIR)/man
DOCDIR     = $(DATADIR)/doc/gqa
INSTALL    = install
BASH_FILE  = bash-completion/completions/gqa-run
ZSH_FILE   = zsh/site-functions/_gqa-run

lib: $(BUILD)/lib/libgqa.a $(BUILD)/lib/$(DEVNAME)
$(BUILD)/lib/%.o: %.c Makefile $(BUILD)/flags
	$(call say,CC,$< (PIC))
	@mkdir -p $(@D)
	$(Q)$(CC) $(FLAGS) $(if $(WINDOWS),,-fPIC) -MMD -MP -c -o $@ $<
ifneq ($(WINDOWS)$(MACOS),) # no objcopy for their files: names of its own stay visible
$(BUILD)/lib/libgqa.a: $(CORE_OBJ)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^
else
$(BUILD)/lib/libgqa.a: $(CORE_OBJ)
	$(call say,AR)
	$(Q)$(CC) -r -nostdlib -o $(BUILD)/lib/gqa-all.o $^
	$(Q)$(OBJCOPY) -w --keep-global-symbol='gqa_*' $(BUILD)/lib/gqa-all.o
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $(BUILD)/lib/gqa-all.o
endif
EXPORTS    = $(BUILD)/lib/exports
SHARED     = $(CC) $(filter-out -pie,$(FLAGS) $(LDFLAGS)) -shared
SO_FLAGS   = -Wl,-soname,$(SONAME) -Wl,--version-script=$(EXPORTS)
ifneq ($(WINDOWS),)
SO_FLAGS   = -Wl,--out-implib,$(BUILD)/lib/$(DEVNAME) $(EXPORTS).def
else ifneq ($(MACOS),)
EXPORTED   = -Wl,-exported_symbol,_gqa_*
SO_FLAGS   = -Wl,-install_name,"$(LIBDIR)/$(SONAME)" $(EXPORTED)
endif
$(BUILD)/lib/$(SONAME): $(CORE_OBJ)
	$(call say,LD)
	@printf '{ global: gqa_*; local: *; };\n' >$(EXPORTS)
	@$(if $(WINDOWS),$(NM) -g $^ | awk 'BEGIN {print "EXPORTS"} $$2 ~ /[DRT]/ && $$3 ~ /^gqa_/ \
	    {print $$3}' >$(EXPORTS).def)
	$(Q)$(SHARED) $(SO_FLAGS) -o $@ $(filter %.o,$^) $(LDLIBS)
$(BUILD)/lib/$(DEVNAME): $(BUILD)/lib/$(SONAME)
	@$(if $(WINDOWS),touch $@,ln -sf $(SONAME) $@)

# to: the place of a file as a word of the shell; put: MODE,FILE,PLACE
to  = "$(DESTDIR)$(1)"
put = $(INSTALL) -d -m 755 "$$(dirname $(call to,$(3)))" && $(INSTALL) -m $(1) $(2) $(call to,$(3))
# Windows looks for DLLs beside the program.
SHAREDDIR = $(if $(WINDOWS),$(BINDIR),$(LIBDIR))
install: $(BUILD)/run$(EXE) lib
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' -e 's|@THREADS@|$(THREADS)|' \
	    -e 's|@LDLIBS@|$(LDLIBS)|' docs/gqa.pc.in \
	    >$(BUILD)/lib/gqa.pc
	$(call put,755,$(BUILD)/run$(EXE),$(BINDIR)/gqa-run$(EXE))
	$(call put,644,model.h,$(INCLUDEDIR)/gqa.h)
	$(call put,644,$(BUILD)/lib/libgqa.a,$(LIBDIR)/libgqa.a)
	$(call put,644,$(BUILD)/lib/$(SONAME),$(SHAREDDIR)/$(SONAME))
	$(if $(WINDOWS),$(call put,644,$(BUILD)/lib/$(DEVNAME),$(LIBDIR)/$(DEVNAME)), \
	    ln -sf $(SONAME) $(call to,$(LIBDIR)/$(DEVNAME)))
	$(call put,644,$(BUILD)/lib/gqa.pc,$(LIBDIR)/pkgconfig/gqa.pc)
	$(call put,644,docs/gqa-run.1,$(MANDIR)/man1/gqa-run.1)
	$(call put,644,completions/run.bash,$(DATADIR)/$(BASH_FILE))
	$(call put,644,completions/_run,$(DATADIR)/$(ZSH_FILE))
	$(call put,644,models/stories-gqa.gguf,$(DATADIR)/gqa/stories.gguf)
	$(call put,644,LICENSE,$(DOCDIR)/LICENSE)
	for e in examples/*.c; do \
	    sed 's|"../model.h"|<gqa.h>|' $$e >$(BUILD)/lib/example.c && \
	        $(call put,644,$(BUILD)/lib/example.c,$(DOCDIR)/$$e) || exit 1; \
	done
uninstall:
	rm -f $(call to,$(BINDIR)/gqa-run$(EXE)) $(call to,$(INCLUDEDIR)/gqa.h) \
	    $(call to,$(LIBDIR)/libgqa.a) $(call to,$(LIBDIR)/$(DEVNAME)) \
	    $(call to,$(SHAREDDIR)/$(SONAME)) $(call to,$(LIBDIR)/pkgconfig/gqa.pc) \
	    $(call to,$(MANDIR)/man1/gqa-run.1) $(call to,$(DATADIR)/$(BASH_FILE)) \
	    $(call to,$(DATADIR)/$(ZSH_FILE))
	rm -rf $(call to,$(DATADIR)/gqa) $(call to,$(DOCDIR))

# The web page, one file, and what it needs as WebAssembly: gqa.js holds the module (web/web.c over
# the library). By emscripten, into a folder of objects of its own. Node 18's fetch knows no files:
# hence SINGLE_FILE for the test too.
WASM      = $(BUILD)/wasm
WASM_MAKE = $(MAKE) BUILD=$(WASM) CC=emcc AR=emar THREADS= WARN=-Wall CFLAGS="-O2 -msimd128"
EMCC      = NODE_PATH=/usr/share/nodejs emcc -O2 -sSINGLE_FILE -sALLOW_MEMORY_GROWTH \
            -sNODEJS_CATCH_EXIT=0 -sNODEJS_CATCH_REJECTION=0 \
            -sTOTAL_STACK=5242880 # newer ones leave 64 KB
WASM_TESTS = kernels attention forward batch session_file numeric splits foreign malformed \
             tokenizer chat jinja generate
WEB_CALLS = _malloc,_free,_web_open,_web_error,_web_describe,_web_start,_web_next,_web_text
web: need-emcc
	$(Q)$(WASM_MAKE) $(WASM)/gqa.js
	@mkdir -p $(BUILD)/web
	$(Q)python3 web/make_page.py $(WASM)/gqa.js models/stories-gqa.gguf $(BUILD)/web/gqa.html
	@echo "$(BUILD)/web/gqa.html"
wasm-test: need-emcc
	$(Q)$(WASM_MAKE) $(WASM_TESTS:%=$(WASM)/test_%.js)
print-wasm-tests:
	@echo $(WASM_TESTS)
need-emcc:
	@command -v emcc >/dev/null || { echo "make web: no emcc; Debian has it in the packages" \
	    "emscripten and node-acorn" >&2; exit 1; }
$(BUILD)/gqa.js: $(BUILD)/web/web.o $(BUILD)/libgqa.a
	$(call say,LD)
	$(Q)$(EMCC) -sMODULARIZE -sEXPORT_NAME=createGqa -sENVIRONMENT=web,node \
	    -sEXPORTED_FUNCTIONS=$(WEB_CALLS),_web_size,_web_kv_bytes,_web_close \
	    -sEXPORTED_RUNTIME_METHODS=ccall -o $@ $^
$(BUILD)/test_%.js: $(BUILD)/tests/test_%.o $(TEST_OBJ) $(BUILD)/libgqa.a
	$(call say,LD)
	$(Q)$(EMCC) -sNODERAWFS -o $@ $^

dist:
	python3 scripts/amalgamate.py $(BUILD)/dist
print-sources:
	@echo $(CORE_SRC)
.PHONY: lib install uninstall dist print-sources web wasm-test print-wasm-tests need-emcc
