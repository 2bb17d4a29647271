#!/usr/bin/env bash
# Runs every unit test program of a build directory under valgrind: tests/valgrind.sh BUILD_DIR
set -u
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for program in "$1"/tests/unit_test_*; do
    [ -x "$program" ] || continue
    if WARREN_SLOW_CHECKER=1 valgrind --quiet --error-exitcode=9 --leak-check=full \
        --errors-for-leak-kinds=definite,possible "$program" >"$log" 2>&1; then
        passed=$((passed + 1))
    else
        echo "valgrind: $(basename "$program") failed"
        tail -n 40 "$log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
