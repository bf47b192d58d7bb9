#!/usr/bin/env bash
# Runs `go build` and shows that it lives: a line each 15 seconds.
# Usage: scripts/go-build.sh WHAT [go build arguments]
set -euo pipefail
what=${1:?usage: scripts/go-build.sh WHAT [go build arguments]}
shift

log=$(mktemp)
build=
trap '[[ -z $build ]] || kill "$build" 2>/dev/null || true; rm -f "$log"' EXIT

echo "Building $what" >&2
CGO_ENABLED=0 go build -v -trimpath "$@" 2>"$log" &
build=$!

started=$SECONDS
next=15
while kill -0 "$build" 2>/dev/null; do
  sleep 0.2
  if ((SECONDS - started >= next)); then
    next=$((next + 15))
    fetched=$(grep -c '^go: downloading' "$log" || true)
    compiled=$(grep -cE '^[^ :]+$' "$log" || true)
    echo "  … $((SECONDS - started)) s: $fetched modules fetched, $compiled packages compiled" >&2
  fi
done

status=0
wait "$build" || status=$?
build=
if ((status != 0)); then
  grep -vE '^(go: downloading .*|[^ :]+)$' "$log" >&2 || true
  echo "Building $what failed." >&2
  exit "$status"
fi
