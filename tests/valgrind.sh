#!/usr/bin/env bash
# Runs unit test programs of a build directory under valgrind, two at a time: tests/valgrind.sh BUILD_DIR
# valgrind is thirty times slower than the processor: of thousands of alike cases every 13th is tried (no power of two,
# so that each bit of a byte has its turn), and programs that run models or thousands of random steps (valgrind.heavy)
# are left to the sanitizers.
set -u
export WARREN_STRIDE=13
build=$1
heavy=" $(cat "$(dirname "$0")/valgrind.heavy" | tr '\n' ' ') "
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

check() {    # program
    local name
    name=$(basename "$1")
    if valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite,possible \
        "$1" >"$out/$name.log" 2>&1; then
        touch "$out/$name.passed"
    else
        touch "$out/$name.failed"
    fi
}

for program in "$build"/tests/unit_test_*; do
    [ -x "$program" ] && [[ $heavy != *" $(basename "$program") "* ]] || continue
    check "$program" &
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
done
wait
for failed in "$out"/*.failed; do
    [ -e "$failed" ] || continue
    echo "valgrind: $(basename "$failed" .failed) failed"
    tail -n 40 "${failed%.failed}.log"
done
count() { find "$out" -name "*.$1" | wc -l; }
echo "$(count passed) passed, $(count failed) failed, 0 skipped"
[ "$(count failed)" -eq 0 ]
