#!/usr/bin/env bash
# Runs each fuzz test of the main module for a bounded time (FUZZTIME, 20 s each). What
# one finds is kept by Go under testdata/fuzz of its package: commit it, and it is run
# by every `go test` from then on.
set -euo pipefail
cd "$(dirname "$0")/.."

tests=0
for package in $(go list ./...); do
  for test in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
    echo "$test of $package"
    go test -run '^$' -fuzz "^$test\$" -fuzztime "${FUZZTIME:-20s}" "$package"
    tests=$((tests + 1))
  done
done
echo "$tests fuzz tests"
((tests > 0))
