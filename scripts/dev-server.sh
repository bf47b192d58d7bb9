# Sourced by vault.sh and demo.sh: a dev server with the plugin. Not run by itself.
# shellcheck shell=bash

# plugin_version is what the plugin says its version is: Vault refuses another.
# shellcheck disable=SC2034 # for the scripts that take this one in
plugin_version=$(sed 's/ *$//' VERSION)

# about prints what a binary is, "Vault v1.21.1" or "OpenBao v2.6.2", by what it
# says itself: its file may have any name. It fails for every other program.
about() {
  local said
  said=$(timeout -k 5 20 "$1" version </dev/null 2>/dev/null) || return
  grep -oEm 1 '^(Vault|OpenBao) v[0-9][^ ,]*' <<<"$said"
}

free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 10000))
    if ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "no free port found" >&2
  return 1
}

# start_server starts a dev server in the background that takes plugins from
# DIR/plugins, and waits until it answers. It sets server_pid, and VAULT_ADDR and
# VAULT_TOKEN for the command line. Usage: start_server BINARY DIR LOG
start_server() {
  local binary=$1 dir=$2 log=$3 port kind options
  kind=$(about "$binary") || return
  # Whatever the caller uses Vault for. Without BAO_TOKEN and BAO_ADDR, which win
  # over them, OpenBao takes VAULT_TOKEN and VAULT_ADDR as Vault does.
  unset "${!VAULT_@}" "${!BAO_@}"
  VAULT_TOKEN=demo-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  export VAULT_TOKEN VAULT_ADDR
  options=(-dev -dev-no-store-token "-dev-plugin-dir=$dir/plugins" -log-level=debug)
  if [[ $kind == OpenBao* ]]; then # takes audit devices over its API only when told so
    echo 'unsafe_allow_api_audit_creation = true' >"$dir/server.hcl"
    options+=("-config=$dir/server.hcl")
  fi
  mkdir -p "$dir/home"
  for _ in {1..5}; do
    port=$(free_port) || return
    VAULT_ADDR=http://127.0.0.1:$port
    # The token goes by the environment: every process list shows arguments.
    HOME=$dir/home VAULT_DEV_ROOT_TOKEN_ID=$VAULT_TOKEN BAO_DEV_ROOT_TOKEN_ID=$VAULT_TOKEN \
      nohup "$binary" server "${options[@]}" "-dev-listen-address=127.0.0.1:$port" >"$log" 2>&1 </dev/null &
    server_pid=$!
    # Only this server knows the token: another one on that port would refuse it.
    if answers "$server_pid" "$binary" token lookup; then return; fi
    end server_pid
    grep -q 'address already in use' "$log" || return 1
  done
  return 1
}

# answers waits at most 30 s for a command to succeed while a process lives.
# Usage: answers PID COMMAND…
answers() {
  local pid=$1
  shift
  for _ in {1..150}; do
    kill -0 "$pid" 2>/dev/null || return 1
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  return 1
}

# end stops the process that a variable names, if there is one.
end() {
  [[ -n ${!1:-} ]] || return 0
  kill "${!1}" 2>/dev/null || true
  wait "${!1}" 2>/dev/null || true
  printf -v "$1" %s ''
}
