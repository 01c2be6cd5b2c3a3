#!/bin/sh
# test_cli_template.sh RUN: conversations as chat templates write them.
run=$1
. tests/checks.sh
t=$tmp/t.jinja
# shows TEXT ARG...: what `run template` prints, to the byte; "." stands for the end.
shows() {
    want=$1
    shift
    expect 0 "" template "$@"
    check "prints $want" test "$(cat "$tmp/out" && echo .)" = "$want."
}

test_case "a template in a file"
cat >"$t" <<'END'
{{ bos_token }}{% for m in messages %}
<{{ m.role }}>{{ m.content | trim }}{{ eos_token }}
{%- endfor %}
{% if add_generation_prompt %}<assistant>{% endif %}
END
shows "<user>Hello<assistant>" "$t"
echo '[{"role": "system", "content": "Be"}, {"role": "user", "content": " h\u00e9 "}]' \
    >"$tmp/m.json"
shows "[B]<system>Be[E]<user>hé[E]<assistant>" "$t" --messages "$tmp/m.json" --bos "[B]" \
    --eos "[E]"
shows "<system>Be<user>hé" "$t" --messages "$tmp/m.json" --no-prompt
expect 0 "" template "$t" --messages - <"$tmp/m.json"
check "messages from standard input" grep -q "<user>hé" "$tmp/out"

test_case "variables"
cat >"$t" <<'END'
{{ enable_thinking is defined }} {{ enable_thinking }} {{ tools | tojson }} {{ documents }}
{{- strftime_now(" %d %B %Y") }}
END
echo '[{"name": "f", "description": "<&>"}]' >"$tmp/tools.json"
shows 'False  null None 05 March 2026' "$t" --date 2026-03-05
shows 'True True [{"name": "f", "description": "<&>"}] None 05 March 2026' "$t" --date 2026-03-05 \
    --think --tools "$tmp/tools.json"
shows 'True False null None 05 March 2026' "$t" --date 2026-03-05 --no-think
check "no warning" test ! -s "$tmp/err"
expect 0 "" template "$t"
check "today" grep -q "$(date +' %d ')" "$tmp/out"
expect 2 "--date 5 March: expected a date as YYYY-MM-DD" template "$t" --date "5 March"
echo "Hello" >"$t"
expect 0 "the template has neither enable_thinking nor thinking" template "$t" --think
expect 2 "--date 2026-02-30: expected a date" template "$t" --date 2026-02-30

test_case "errors"
echo '{{ raise_exception("Roles must alternate!") }}' >"$t"
expect 1 "" template "$t"
check "the template's own words" test "$(cat "$tmp/err")" = "run: Roles must alternate!"
printf 'a\n{{ "x"|unheard_of }}' >"$t"
expect 1 "t.jinja: chat template, line 2: the filter \"unheard_of\" is not known" template "$t"
check "nothing on standard output" test ! -s "$tmp/out"
echo '{"role": "user"}' >"$tmp/m.json"
expect 1 "m.json: expected a JSON array" template "$t" --messages "$tmp/m.json"
echo '[1,' >"$tmp/m.json"
expect 1 "m.json: JSON, line 2: expected a value, got the end" template "$t" \
    --messages "$tmp/m.json"
echo '{"name": "f"}' >"$tmp/tools.json"
expect 1 "tools.json: expected a JSON array" template "$t" --tools "$tmp/tools.json"
expect 1 "none.json" template "$t" --tools "$tmp/none.json"
expect 1 "none.jinja" template "$tmp/none.jinja"
expect 2 "no model or .jinja file given" template
expect 2 "--think and --no-think exclude each other" template "$t" --think --no-think

test_case "tests/golden/jinja.json is what jinja2 makes of it"
if have python3 "jinja.json against jinja2"; then
    if python3 -c "import jinja2" 2>/dev/null; then
        check "jinja_cases.py --check" python3 tests/golden/jinja_cases.py --check
    else
        skip "jinja.json against jinja2: Python has no jinja2"
    fi
fi

test_case "a model without a template, and ids"
make_model
"$run" template "$m" >"$tmp/out" 2>"$tmp/err"
check "said" grep -q "the model has no chat template; this is plain" "$tmp/err"
check "plain" test "$(cat "$tmp/out" && echo .)" = "User: Hello
Assistant:."
echo '[{"role": "user", "content": "The dog</s>"}]' >"$tmp/m.json"
"$run" template "$m" --template zephyr --messages "$tmp/m.json" --ids >"$tmp/out" 2>"$tmp/err"
check "one end token, the template's" test "$(tr ' ' '\n' <"$tmp/out" | grep -cx 2)" -eq 1
"$run" template "$m" --template zephyr --messages "$tmp/m.json" >"$tmp/prompt"
"$run" tokenize "$m" -f "$tmp/prompt" >"$tmp/all" 2>"$tmp/err"
check "without special tokens in the content" sh -c "! cmp -s '$tmp/out' '$tmp/all'"
expect 2 "--ids needs a model" template "$t" --ids
expect 2 "no template x" template "$m" --template x
finish
