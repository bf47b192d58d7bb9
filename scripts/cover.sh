#!/usr/bin/env bash
# Fails when a package's own tests cover fewer than MINIMUM percent of its
# statements. Usage: scripts/cover.sh MINIMUM PACKAGE...
set -euo pipefail
cd "$(dirname "$0")/.."
minimum=$1
shift

go test -count=1 -coverprofile=coverage.out "$@" | tee coverage.txt
awk -v min="$minimum" '
  match($0, /coverage: [0-9.]+%/) {
    percent = substr($0, RSTART + 10, RLENGTH - 11) + 0
    if (percent < min) { printf "%s: %.1f %% is below %d %%\n", $2, percent, min; low = 1 }
    packages++
  }
  END { exit low || packages == 0 }' coverage.txt
echo "every package has at least $minimum %; see: go tool cover -html=coverage.out"
