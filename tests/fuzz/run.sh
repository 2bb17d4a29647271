#!/usr/bin/env bash
# Fuzzes: tests/fuzz/run.sh [--minutes N] [--jobs N] [--keep DIR] [target...]
# Builds preset `fuzz`, then runs each target (all of them by default) for N minutes (1), two at a time.
# Prints per target: executions, covered edges and features at start and end, findings. Inputs that
# found something are kept in DIR (build/fuzz/findings). Seeds are copied first: the corpus stays as it is.
set -u
cd "$(dirname "$0")/../.." || exit 2
minutes=1 jobs=2 keep=build/fuzz/findings
while [ $# -gt 0 ]; do
    case $1 in
    --minutes | --jobs | --keep)
        [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 2; }
        declare "${1#--}=$2"
        shift 2
        ;;
    -*) echo "usage: $0 [--minutes N] [--jobs N] [--keep DIR] [target...]" >&2; exit 2 ;;
    *) break ;;
    esac
done

for number in "$minutes" "$jobs"; do    # to libFuzzer, 0 minutes is for ever
    [[ $number =~ ^[1-9][0-9]*$ ]] || { echo "not a positive number: $number" >&2; exit 2; }
done

if ! command -v clang >/dev/null; then
    echo "skipped: clang is not installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        targets+=("${name#fuzz_}")
    done
fi
known=()
for name in "${targets[@]}"; do
    [ -f "tests/fuzz/fuzz_$name.c" ] && known+=("fuzz_$name")
done

cmake --preset fuzz >/dev/null || exit 2
if [ ${#known[@]} -gt 0 ]; then
    nice -n 5 cmake --build --preset fuzz -j"$jobs" --target "${known[@]}" >build/fuzz/build.log 2>&1 ||
        { tail -n 40 build/fuzz/build.log; exit 2; }
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$keep"
keep=$(cd "$keep" && pwd)

# fuzz NAME: one target; its report goes to $work/NAME.report, its verdict to $work/NAME.ok.
fuzz() {
    local name=$1 log=$work/$1.log corpus=$work/$1.corpus dict=() code
    local program=build/fuzz/tests/fuzz/fuzz_$name
    if ! [ -x "$program" ]; then
        echo "$name: no such target" >"$work/$name.report"
        return
    fi
    if ! cp -r "tests/fuzz/corpus/$name" "$corpus" 2>/dev/null || [ -z "$(ls "$corpus")" ]; then
        echo "$name: no seeds in tests/fuzz/corpus/$name" >"$work/$name.report"
        return
    fi
    [ -f "tests/fuzz/$name.dict" ] && dict=("-dict=tests/fuzz/$name.dict")
    "$program" "$corpus" "${dict[@]}" -max_total_time=$((minutes * 60)) -rss_limit_mb=512 -timeout=10 \
        -print_final_stats=1 -artifact_prefix="$keep/$name-" >"$log" 2>&1
    code=$?
    local runs first last findings
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    first=$(grep -o 'INITED.*ft: [0-9]*' "$log" | grep -o 'cov:.*' | head -n 1)
    last=$(grep -o 'cov: [0-9]* ft: [0-9]*' "$log" | tail -n 1)
    findings=$(find "$keep" -name "$name-*" -newer "$work/start" | sort)
    echo "$name: ${runs:-0} executions, ${first:-none} -> ${last:-none}, exit $code" >"$work/$name.report"
    if [ $code -ne 0 ] || [ -n "$findings" ] || [ "${runs:-0}" -eq 0 ]; then
        { echo "$findings"; grep -A 12 -E 'ERROR|Assertion|runtime error|SUMMARY' "$log" | head -n 40; } \
            >>"$work/$name.report"
        return
    fi
    touch "$work/$name.ok"
}

touch "$work/start"
passed=0 failed=0
for name in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n
    done
    fuzz "$name" &
done
wait
for name in "${targets[@]}"; do
    cat "$work/$name.report"
    if [ -f "$work/$name.ok" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
