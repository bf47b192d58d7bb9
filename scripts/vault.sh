#!/usr/bin/env bash
# Prints the path of a Vault or OpenBao that can run the demo: $VAULT_BIN, else
# the first one on PATH that can, else the pinned one, built when it is not there
# yet. Says on standard error which one that is. Needs `make build`.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=scripts/dev-server.sh
. scripts/dev-server.sh

chosen=${VAULT_BIN:-}
work=$(cd "$(mktemp -d)" && pwd -P) # Vault takes no symbolic link as plugin directory
server_pid=
trap 'end server_pid; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/plugins"
install -m 0755 bin/vault-plugin-c1 "$work/plugins/"

# usable succeeds for a binary that can run the demo, says in $is what it is, and
# otherwise in $why what it lacks. Help texts tell too little: distributions ship
# builds without the server, and the flags of a dev server are hidden. So it is
# tried.
usable() {
  local log=$work/server.log sha256 said
  if ! is=$(about "$1"); then
    why="it says of itself neither Vault nor OpenBao"
    return 1
  fi
  : >"$log"
  if ! start_server "$1" "$work" "$log"; then
    why="$is started no dev server: $(last_line <"$log")"
    return 1
  fi
  sha256=$(sha256sum "$work/plugins/vault-plugin-c1" | cut -d' ' -f1)
  if ! said=$({ "$1" plugin register "-sha256=$sha256" "-version=$plugin_version" secret vault-plugin-c1 &&
    "$1" secrets enable "-plugin-version=$plugin_version" vault-plugin-c1; } 2>&1); then
    why="$is does not run this plugin: $(last_line <<<"$said")"
    end server_pid
    return 1
  fi
  end server_pid
}

last_line() { grep -vE '^(nohup:.*| *)$' | tail -n 1 | cut -c 1-200; }

if [[ -n $chosen ]]; then
  found=$(cd "$caller" && type -P "$chosen") || { echo "VAULT_BIN=$chosen: there is no such program" >&2; exit 1; }
  [[ $found == /* ]] || found=$caller/$found
  if ! usable "$found"; then
    echo "VAULT_BIN=$chosen cannot run the demo: $why" >&2
    echo "Name another one, or leave VAULT_BIN unset to have one found or built." >&2
    exit 1
  fi
  echo "Using $found ($is), as VAULT_BIN says" >&2
  echo "$found"
  exit
fi

while IFS= read -r found; do
  [[ $found == /* ]] || found=$PWD/$found
  if usable "$found"; then
    echo "Using $found ($is), from PATH" >&2
    echo "$found"
    exit
  fi
  echo "Not using $found from PATH: $why" >&2
done < <(type -aP vault bao)

echo "Using the pinned Vault, which is built when it is not there yet" >&2
make -s bin/vault >&2
echo "$PWD/bin/vault"
