#!/bin/sh
# demo.sh: what gqa.c does, in about a minute, with the model that ships.
cd "$(dirname "$0")/.." || exit 1
make -s run || exit 1
model=models/stories-gqa.gguf
shape=dim=512,layers=4,heads=16,ffn=1024,vocab=2048,type=q8_0
if [ -t 1 ]; then bold='\033[1m' plain='\033[0m'; else bold='' plain=''; fi
show() {
    printf "\n$bold\$ %s$plain\n" "$*"
    "$@"
}
show ./run info $model
show ./run $model -i "Once upon a time" -n 120 -t 0.8 -s 7
show ./run chat $model --template plain -i "Tell me about a dog." -n 40 -s 7 </dev/null
show ./run compare --shape $shape --kv-heads 16,4,1 --depths 0,4096,16384 --reps 3
show ./run compare $model --kv-heads 2,1 --pool aligned --kv f16,q8_0,q4_0 --depths 0,128 --reps 3
