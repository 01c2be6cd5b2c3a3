#!/bin/sh
# test_completions.sh: what bash completes, and that zsh can read its completion.
cd "$(dirname "$0")/.." || exit 1
. tests/checks.sh
# completes WORD... : the completions of the last word, a line each.
cat >"$tmp/complete.bash" <<'END_OF_SCRIPT'
compopt() { :; }
. completions/run.bash
COMP_WORDS=(run "$@")
COMP_CWORD=$#
_gqa_run
printf '%s\n' "${COMPREPLY[@]}"
END_OF_SCRIPT
completes() { bash "$tmp/complete.bash" "$@"; }

test_case "bash"
if have bash "completions"; then
    check "he: help" test "$(completes he)" = help
    check "ver: version" test "$(completes ver)" = version
    check "help perp: a command" test "$(completes help perp)" = perplexity
    check "help --: no option" test -z "$(completes help --)"
    check "perplexity --doc" test "$(completes perplexity m.gguf --doc)" = --documents
fi

test_case "zsh"
if have zsh "completions"; then
    check "syntax" zsh -n completions/_run
    check "help and version" test "$(grep -cE "'(help|version):" completions/_run)" -gt 0
fi
finish
