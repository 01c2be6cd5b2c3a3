#!/bin/sh
# test_threads.sh RUN: the number of threads is right, and text comes, whatever OpenMP's variables
# say, where memory is short, and where the program is not started by its own name.
run=$1
. tests/checks.sh
m=tests/models/stories-gqa.gguf
tests=$(dirname "$run")/tests/test_threads
openmp=
nm "$run" | grep -qE 'GOMP_parallel|__kmpc_fork_call' && openmp=1
sanitized=
nm "$run" | grep -q __asan_init && sanitized=1

# tell PREFIX...: the beginning of a story; the number of threads goes to $threads
tell() {
    "$@" -i "Once upon a time" -n 12 -t 0 >"$tmp/out" 2>"$tmp/err" || return 1
    threads=$(sed -n 's/^seed.*, \([0-9]*\) threads\{0,1\};.*/\1/p' "$tmp/err")
}
# tells THREADS WHAT PREFIX...: the usual story on so many threads
tells() {
    wanted=$1 what=$2
    shift 2
    tell "$@"
    check "$what: no text" test $? -eq 0
    same "$tmp/out" "$tmp/story" "$what: another text"
    check "$what: $threads threads, expected $wanted" test "$threads" = "$wanted"
}

test_case "what the environment says"
check "the usual story" tell env "$run" "$m"
cp "$tmp/out" "$tmp/story"
usual=$threads
for set in OMP_PROC_BIND=true OMP_PROC_BIND=spread OMP_PLACES=cores OMP_PLACES=threads \
    GOMP_CPU_AFFINITY=0-1023 OMP_WAIT_POLICY=active OMP_STACKSIZE=1G OMP_NUM_THREADS=1000; do
    tells "$usual" "$set" env "$set" "$run" "$m"
    if [ -x "$tests" ]; then
        check "$set" env "$set" "$tests" "as many threads as were asked for" \
            "two threads may use two CPUs"
    else skip "$set: no test_threads, this system binds no threads"; fi
done
if [ -n "$openmp" ]; then
    tells 1 OMP_NUM_THREADS=1 env OMP_NUM_THREADS=1 "$run" "$m"
    tells 1 OMP_THREAD_LIMIT=1 env OMP_THREAD_LIMIT=1 "$run" "$m"
else skip "OMP_NUM_THREADS: a program without OpenMP"; fi
tells 3 "-j 3" env "$run" "$m" -j 3

test_case "little memory"
if [ -n "$sanitized" ]; then skip "ulimit -v with sanitizers"
elif ! posix "ulimit -v"; then :
elif ! (ulimit -v 200000) 2>/dev/null; then skip "ulimit -v: not on this system"
else
    limited() { (ulimit -v "$kilobytes" && exec "$run" "$m" "$@"); }
    kilobytes=20000 told=0
    while [ $kilobytes -le 200000 ]; do
        if tell limited -j 8; then
            same "$tmp/out" "$tmp/story" "ulimit -v $kilobytes: another text"
            check "$threads threads" test "$threads" -ge 1
            check "$threads threads of 8" test "$threads" -le 8
            told=$threads
        else
            check "ulimit -v $kilobytes: no text and no word" \
                grep -qE '^run: |loading shared libraries' "$tmp/err"
        fi
        kilobytes=$((kilobytes + 6000))
    done
    check "with 200 MB there are $told threads, expected 8" test "$told" -eq 8
fi

test_case "started by another program"
loader=$(readelf -l "$run" 2>/dev/null | sed -n 's/.*interpreter: \(.*\)\]/\1/p')
if [ -n "$sanitized" ]; then skip "the loader and valgrind with sanitizers"; else
    if [ -n "$loader" ]; then tells "$usual" "$loader" "$loader" "$run" "$m"; fi
    if ! have valgrind "the program under it"; then :
    elif valgrind -q "$run" version 2>&1 | grep -q 'debuginfo reader'; then
        skip "valgrind cannot read what this compiler writes"
    else
        tells "$usual" valgrind valgrind -q --error-exitcode=9 "$run" "$m"
    fi
fi
finish
