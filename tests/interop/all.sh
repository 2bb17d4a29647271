#!/usr/bin/env bash
# The interop level: every case against go, rust and js, then a DHT of all of them behind one warren node.
# tests/interop/all.sh BUILD_DIR [--no-swarm]
# go, rust and js are compulsory where this machine has their toolchain (peers/build.sh says so); an implementation
# that cannot be had is one skip with its reason in each part.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
shift
part=${1:-}
export WARREN_PEER=$build/tests/interop/warren_peer/warren_peer
export WARREN_PROGRAM=$build/tools/warren
export WARREN_LAB_LINK=$build/tests/natlab/lab_link
export WARREN_SUITE=$build/tests/interop/suite/warren_suite
passed=0 failed=0 skipped=0
logs=$(mktemp -d)
children=()
finish() {
    for pid in "${children[@]}"; do kill "$pid" 2>/dev/null; done
    rm -rf "$logs"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Adds the closing line of a run to the totals.
count() {    # its output, command ...
    local log=$1 line
    shift
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

counted() {    # command ...
    "$@" 2>&1 | tee "$logs/now"
    count "$logs/now" "$@"
}

"$here/peers/build.sh"
# Those over QUIC spend most of their time waiting for silence, so they run beside the others.
for other in go rust js; do
    python3 "$here/run.py" --with warren --impl "warren,$other" --transport quic >"$logs/quic-$other" 2>&1 &
    children+=($!)
done
# So do the rows about NATs, in namespaces of their own.
python3 "$here/nat.py" >"$logs/nat" 2>&1 &
children+=($!)
counted python3 "$here/run.py" --with warren
# what differs under another security protocol; the rest lies above it
counted python3 "$here/run.py" --with warren --security tls --only \
    connect,wrong-id,disconnect,reconnect,many-dialers,key-,psk,identify,ping,streams-200,half-close,reset,upload,download,both-ways,odd-chunks
counted python3 "$here/mdns.py"
counted python3 "$here/suite.py"
wait
for other in go rust js; do
    echo "over QUIC, $other:"
    cat "$logs/quic-$other"
    count "$logs/quic-$other" "run.py --transport quic, $other"
done
echo "relays, AutoNAT and hole punching:"
cat "$logs/nat"
count "$logs/nat" nat.py
[ "$part" = --no-swarm ] || counted python3 "$here/swarm.py"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
