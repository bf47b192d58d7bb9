#!/usr/bin/env bash
# Builds the Vault server that tools/vault pins, with a line now and then to
# show that it lives. Usage: scripts/build-vault.sh FILE
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/build-vault.sh FILE}
[[ $target == /* ]] || target=$PWD/$target
mkdir -p "$(dirname "$target")"

version=$(sed -n 's|^.*github.com/hashicorp/vault \(v[0-9.]*\).*|\1|p' tools/vault/go.mod)
log=$(mktemp)
build=
trap '[[ -z $build ]] || kill "$build" 2>/dev/null || true; rm -f "$log"' EXIT

echo "Building Vault $version from source: 5 to 10 minutes the first time, seconds after that." >&2
# The flags stay as they are: other ones would compile everything once more.
(cd tools/vault && CGO_ENABLED=0 exec go build -v -tags minimal -trimpath -ldflags "-s -w" \
  -o "$target" github.com/hashicorp/vault) 2>"$log" &
build=$!

started=$SECONDS
next=15
while kill -0 "$build" 2>/dev/null; do
  sleep 1
  if ((SECONDS - started >= next)); then
    next=$((next + 15))
    fetched=$(grep -c '^go: downloading' "$log" || true)
    compiled=$(grep -cv '^go: ' "$log" || true)
    echo "  … $((SECONDS - started)) s: $fetched modules fetched, $compiled of about 1,900 packages compiled" >&2
  fi
done

if ! wait "$build"; then
  build=
  echo "Vault did not build:" >&2
  grep -v '^go: downloading' "$log" | tail -n 20 >&2
  exit 1
fi
build=
touch "$target" # an unchanged binary keeps its time, and make would build it again
echo "Built $target in $((SECONDS - started)) s." >&2
