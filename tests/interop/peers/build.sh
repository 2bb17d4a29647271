#!/usr/bin/env bash
# Builds the test peers that this machine can build, each into a folder of the cache named by a hash of its sources,
# and prints one line for each:
#     IMPL ready PATH
#     IMPL unavailable REASON      this machine lacks the toolchain, or the way to the packages
#     IMPL broken REASON           it has both, and the build fails all the same
# usage: build.sh [go] [rust] [js]        (all without arguments; exit 0 whatever the outcome)
# WARREN_PEERS=release builds what is measured, with all optimisation; without it rust's takes half the time to build.
# The cache is ${XDG_CACHE_HOME:-$HOME/.cache}/warren-tests; builds that nobody used for two weeks are removed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/warren-tests
node_major=22            # what the js packages ask for
node_package=24.21.0     # the npm package that carries a node binary, where the system's is older
# What go, cargo and npm say without a network.
unreachable='could not resolve|no such host|dial tcp|ENOTFOUND|EAI_AGAIN|ENETUNREACH|ECONNREFUSED|ETIMEDOUT|unreachable|could not connect'
rust_profile=${WARREN_PEERS:-quick}
mkdir -p "$cache" || exit 1

say() { printf '%s\n' "$*" >&2; }

# at_least A B: is version A (dotted) at least B
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

# sources IMPL: hash of everything that goes into its build
sources() {
  (cd "$here/$1" && find . -type f ! -path './node_modules/*' ! -path './target/*' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum; cat "$here/build.sh"; uname -m; "toolchain_$1") | sha256sum | cut -c1-16
}

toolchain_go() { GOTOOLCHAIN=local go env GOVERSION; }
toolchain_rust() { rustc --version; echo "$rust_profile"; }
toolchain_js() { node --version; }

check_go() {
  command -v go >/dev/null || { echo "no go in PATH"; return 1; }
  local v; v=$(GOTOOLCHAIN=local go env GOVERSION); v=${v#go}
  at_least "$v" 1.21 || { echo "go $v can neither build them nor fetch one that can (1.21 can)"; return 1; }
}
# The machine's own go where it is new enough, else the one that go.mod names, fetched by it.
go_toolchain() {
  local v; v=$(GOTOOLCHAIN=local go env GOVERSION); v=${v#go}
  if at_least "$v" 1.26; then echo local; else echo go1.26.0+auto; fi
}
check_rust() {
  command -v cargo >/dev/null || { echo "no cargo in PATH"; return 1; }
  local v; v=$(rustc --version | cut -d' ' -f2)
  at_least "$v" 1.88 || { echo "rust $v is older than 1.88"; return 1; }
}
check_js() {
  command -v npm >/dev/null || { echo "no npm in PATH"; return 1; }
}

# build_IMPL SRC OUT: SRC is a copy of the sources that may be written to, OUT gets the programs `peer` and `suite`
build_go() {
  (cd "$1" && GOTOOLCHAIN=$(go_toolchain) GOFLAGS=-mod=readonly go build -trimpath -ldflags='-s -w' -o "$2/peer" . &&
    GOTOOLCHAIN=$(go_toolchain) GOFLAGS=-mod=readonly go build -trimpath -ldflags='-s -w' -o "$2/suite" ./suite)
}

build_rust() {
  # one target folder for all sources, so that a change to the peer does not build the libraries again
  (cd "$1" && CARGO_TARGET_DIR="$cache/rust-target" cargo build --profile "$rust_profile" --locked) &&
    cp "$cache/rust-target/$rust_profile/warren-test-peer" "$2/peer" && cp "$cache/rust-target/$rust_profile/suite" "$2/suite"
}

node_for_js() {
  local v; v=$(node --version 2>/dev/null); v=${v#v}
  if [ -n "$v" ] && at_least "$v" "$node_major"; then command -v node; return; fi
  local arch; case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) return 1 ;; esac
  local dir=$cache/node-$node_package-$arch
  if [ ! -x "$dir/bin/node" ]; then
    local tmp; tmp=$(mktemp -d "$cache/tmp.node.XXXXXX")
    (cd "$tmp" && echo '{}' > package.json &&
      npm install --no-save --no-audit --no-fund --ignore-scripts "node-linux-$arch@$node_package") >&2 &&
      chmod +x "$tmp/node_modules/node-linux-$arch/bin/node" &&
      mv "$tmp/node_modules/node-linux-$arch" "$dir"
    rm -rf "$tmp"
  fi
  [ -x "$dir/bin/node" ] && echo "$dir/bin/node"
}

build_js() {
  local node; node=$(node_for_js)
  [ -n "$node" ] || { say "no node >= $node_major, and none from npm"; return 1; }
  cp "$1"/*.mjs "$1"/package*.json "$1"/.npmrc "$2/" &&
    (cd "$2" && npm ci --omit=dev --no-audit --no-fund --ignore-scripts) &&
    printf '#!/bin/sh\nexec "%s" --expose-gc "$(dirname "$0")/main.mjs" "$@"\n' "$node" > "$2/peer" &&
    printf '#!/bin/sh\nexec "%s" "$(dirname "$0")/suite.mjs"\n' "$node" > "$2/suite" &&
    chmod +x "$2/peer" "$2/suite"
}

one() {
  local impl=$1 reason out tmp
  reason=$("check_$impl" 2>/dev/null) || { echo "$impl unavailable $reason"; return; }
  out=$cache/$impl-$(sources "$impl")
  # Who has what it needs does not wait for others that build something else.
  [ -x "$out/peer" ] || (
    flock 9
    if [ ! -x "$out/peer" ]; then
      tmp=$(mktemp -d "$cache/tmp.$impl.XXXXXX")
      mkdir "$tmp/src" "$tmp/out"
      (cd "$here/$impl" && tar cf - --exclude=./node_modules --exclude=./target .) | tar xf - -C "$tmp/src"
      say "building the $impl peer ..."
      SECONDS=0
      if "build_$impl" "$tmp/src" "$tmp/out" > "$cache/$impl.log" 2>&1 && [ -x "$tmp/out/peer" ]; then
        say "built the $impl peer in $SECONDS s"
        mv "$tmp/out" "$out"
      else
        tail -n 15 "$cache/$impl.log" >&2
      fi
      chmod -R u+w "$tmp"
      rm -rf "$tmp"
    fi
  ) 9> "$cache/$impl.lock"
  if [ -x "$out/peer" ]; then
    touch "$out"
    echo "$impl ready $out/peer"
  elif grep -qiE "$unreachable" "$cache/$impl.log"; then
    echo "$impl unavailable its packages cannot be fetched: $(grep -iE -m 1 "$unreachable" "$cache/$impl.log" | cut -c1-160)"
  else
    echo "$impl broken the build failed, see $cache/$impl.log"
  fi
}

find "$cache" -maxdepth 1 \( -name 'go-*' -o -name 'rust-????????????????' -o -name 'js-*' \) -mtime +14 \
  -exec rm -rf {} + 2>/dev/null
[ $# -gt 0 ] || set -- go rust js
for impl; do
  case $impl in
    go | rust | js) one "$impl" ;;
    *) echo "$impl unavailable no such peer" ;;
  esac
done
