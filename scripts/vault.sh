#!/usr/bin/env bash
# Prints the path of a Vault or OpenBao that can run a dev server: $VAULT_BIN,
# else one from PATH, else the pinned one, built when it is not there yet.
set -euo pipefail
cd "$(dirname "$0")/.."

# Distributions ship builds without the server, and agents under the same name.
runs_dev_server() { "$1" server -help 2>&1 | grep -q -- '-dev-plugin-dir'; }

if [[ -n ${VAULT_BIN:-} ]]; then
  runs_dev_server "$VAULT_BIN" || { echo "VAULT_BIN=$VAULT_BIN cannot run \`server -dev\`" >&2; exit 1; }
  echo "$VAULT_BIN"
  exit
fi
for name in vault bao; do
  if found=$(command -v "$name") && runs_dev_server "$found"; then
    echo "$found"
    exit
  fi
done
make -s bin/vault >&2
echo "$PWD/bin/vault"
