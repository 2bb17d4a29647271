#!/usr/bin/env bash
# The natlab level: the laboratory measures itself; what nodes find out about their NATs; who reaches whom. tests/natlab/all.sh BUILD_DIR [--full]
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
shift
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

counted() {    # command ...
    local line
    "$@" 2>&1 | tee "$log"
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    if [ -z "$line" ]; then
        echo "no count from: $*"
        failed=$((failed + 1))
        return
    fi
    passed=$((passed + $(sed -E 's/^([0-9]+) passed.*/\1/' <<<"$line")))
    failed=$((failed + $(sed -E 's/.* ([0-9]+) failed.*/\1/' <<<"$line")))
    skipped=$((skipped + $(sed -E 's/.* ([0-9]+) skipped.*/\1/' <<<"$line")))
}

counted python3 "$here/kinds_test.py" "$build"
counted python3 "$here/verdicts.py" "$build"
[[ " $* " == *" --full "* ]] && counted python3 "$here/verdicts.py" "$build" --full
counted python3 "$here/matrix.py" "$build" --with control,warren "$@"
counted python3 "$here/portmap.py" "$build"
counted python3 "$here/faults.py" "$build"
counted python3 "$here/manners.py" "$build" --minutes 1
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
