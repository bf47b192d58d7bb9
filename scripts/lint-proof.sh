#!/usr/bin/env bash
# Proves that golangci-lint reads .golangci.yml: a package that breaks one rule
# which only that file sets must be reported, for that rule and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
lint=$PWD/bin/golangci-lint

status=0
out=$(cd tools/lint/testdata/proof && "$lint" run --show-stats=false . 2>&1) || status=$?
issues=$(grep -cE ' \([a-z]+\)$' <<<"$out" || true)
if [[ $status -ne 1 || $issues -ne 1 ]] || ! grep -q 'inject the clock" (forbidigo)$' <<<"$out"; then
  echo "golangci-lint does not apply .golangci.yml; it answered $status:" >&2
  echo "$out" >&2
  exit 1
fi
echo "golangci-lint applies .golangci.yml"
