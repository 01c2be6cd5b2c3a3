# bash completion of gqa-run and ./run, made by scripts/make-usage.py
_gqa_run() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options values
    case ${COMP_WORDS[1]} in
        chat)
            options="-y -i --template --think --no-think --no-show-think --date -n -t -p --top-k --min-p --repeat-penalty --repeat-last -s -c -j --kv -z --stop --choice --ignore-eos --lookup --draft --exact --fast-prefill --no-repack --quiet --help"
            values="-y -i --template --date -n -t -p --top-k --min-p --repeat-penalty --repeat-last -s -c -j --kv --stop --choice --draft" ;;
        info)
            options="-z --memory --context --batch --json --verify --help"
            values="--memory --context --batch" ;;
        tokenize)
            options="-i -f -z --no-bos --special --quiet --help"
            values="-i" ;;
        template)
            options="--messages --tools --think --no-think --no-prompt --date --bos --eos --template --ids --help"
            values="--date --bos --eos --template" ;;
        perplexity)
            options="-f -c --chunks --documents --special --kl --kv --exact -j -z --fast-prefill --no-repack --json --help"
            values="-c --chunks --kv -j" ;;
        bench)
            options="--shape --kv-heads -p -n --depths --batch --mix --lookup -f --isa -r -j --kv --exact --fast-prefill --no-repack -z -s --json --csv --help"
            values="--shape --kv-heads -p -n --depths --batch --mix --isa -r -j --kv -s" ;;
        compare)
            options="--shape --kv-heads --pool --depths --batch --kv -f -c --chunks --documents --special --memory -n --prompt --reps -j -z --svg --html --baseline --csv --json --quiet --help"
            values="--shape --kv-heads --pool --depths --batch --kv -c --chunks --memory -n --prompt --reps -j" ;;
        convert)
            options="--kv-heads --pool -f --samples --type -s -j -z --packed --force --quiet --help"
            values="--kv-heads --pool --samples --type -s -j" ;;
        train)
            options="--shape --attention --match --vocab --tokenizer --untied --steps --teacher --distill --name -f --val --batch --length --micro-batch --rate --rate-end --muon --warmup --decay --clip --dropout -s -j --type --eval-every --save-every --stop-after --restart --force --log --json --quiet --help"
            values="--shape --attention --match --vocab --steps --distill --name --batch --length --micro-batch --rate --rate-end --warmup --decay --clip --dropout -s -j --type --eval-every --save-every --stop-after" ;;
        uptrain)
            options="--kv-heads --pool --fraction --steps --distill -f --val --batch --length --micro-batch --rate --rate-end --muon --warmup --decay --clip --dropout -s -j --type --eval-every --save-every --stop-after --restart --force --log --json --quiet --help"
            values="--kv-heads --pool --fraction --steps --distill --batch --length --micro-batch --rate --rate-end --warmup --decay --clip --dropout -s -j --type --eval-every --save-every --stop-after" ;;
        *)
            options="-i -f --special --no-bos --no-echo --prompt-cache --json -n -t -p --top-k --min-p --repeat-penalty --repeat-last -s -c -j --kv -z --stop --choice --ignore-eos --lookup --draft --exact --fast-prefill --no-repack --quiet --help"
            values="-i -n -t -p --top-k --min-p --repeat-penalty --repeat-last -s -c -j --kv --stop --choice --draft" ;;
    esac
    if ((COMP_CWORD == 2)) && [[ ${COMP_WORDS[1]} == help ]]; then
        COMPREPLY=($(compgen -W "generate chat info tokenize template perplexity bench compare convert train uptrain" -- "$word"))
    elif ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "generate chat info tokenize template perplexity bench compare convert train uptrain help version --help --version" -- "$word"))
    elif [[ " $values " == *" $previous "* ]]; then
        compopt +o default # a number or a name
        COMPREPLY=()
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi # else files, by default
}
complete -o default -F _gqa_run gqa-run ./run
