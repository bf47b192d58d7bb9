#!/usr/bin/env bash
# The whole story on a real Vault and an emulated C1, each step checked.
#
#   scripts/demo.sh        walk through it and clean up
#   scripts/demo.sh -dev   set it up, leave it running and say how to use it
#
# Takes the Vault or OpenBao that VAULT_BIN names, else one from PATH, else the
# pinned one (see vault.sh). DEMO_LOGS names another directory for the logs than
# bin/demo-logs. Needs bash, coreutils, grep and sed, and what `make build` puts
# into bin/.
set -euo pipefail
shopt -s inherit_errexit 2>/dev/null || true

server=$("$(dirname "$0")/vault.sh") # in the caller's directory: VAULT_BIN may be relative to it
mode=${1:-demo}
logs=${DEMO_LOGS:-$(cd "$(dirname "$0")/.." && pwd)/bin/${mode#-}-logs}
[[ $logs == /* ]] || logs=$PWD/$logs
cd "$(dirname "$0")/.."
# shellcheck source=scripts/dev-server.sh
. scripts/dev-server.sh
umask 077

repo=$PWD
work=$(cd "$(mktemp -d)" && pwd -P) # Vault takes no symbolic link as plugin directory
emulator_pid=
server_pid=

# ---------------------------------------------------------------- helpers

bold() { if [[ -t 1 ]]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }

fail() {
  printf '\nFAILED: %s\n' "$*" >&2
  exit 1
}

# run prints a command, runs it and keeps its output in $out. It must succeed.
run() {
  printf '\n$ %s\n' "$1"
  local status=0
  out=$(eval "$1" 2>&1) || status=$?
  [[ -z $out ]] || printf '%s\n' "$out"
  ((status == 0)) || fail "this should have worked (it ended with $status): $1"
}

# refused is run for a command that must fail.
refused() {
  printf '\n$ %s\n' "$1"
  local status=0
  out=$(eval "$1" 2>&1) || status=$?
  [[ -z $out ]] || printf '%s\n' "$out"
  ((status != 0)) || fail "this should have been refused: $1"
}

# shows fails unless the last output matches.
shows() { grep -qE -- "$1" <<<"$out" || fail "the output above should show: $1"; }

# field prints a value of the last output, a table as Vault's command line prints it.
field() {
  local value
  value=$(sed -n "s/^$1  *//p" <<<"$out")
  [[ -n $value ]] || fail "the output above should have the field $1"
  printf '%s\n' "$value"
}

# secret puts a field of the last output into a file and on the list of what
# must not appear in any log.
secret() {
  field "$1" >"$2"
  cat "$2" >>secrets
}

# seeded prints a value of the emulator's seed file, or of another file of its.
seeded() {
  local value file=${2:-c1.json}
  value=$(sed -n "s/^ *\"$1\": *\"\([^\"]*\)\".*/\1/p" "$file" | head -n 1)
  [[ -n $value ]] || fail "$file should hold $1"
  printf '%s\n' "$value"
}

clean_up() {
  local status=$?
  trap - EXIT
  end server_pid
  end emulator_pid
  rm -rf "$work"
  printf '\nBoth servers are stopped, %s is removed. Logs of this run: %s\n' "$work" "$logs/{vault,audit,c1}.log"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---------------------------------------------------------------- set-up

kind=$(about "$server")
cli=vault
[[ $kind == Vault* ]] || cli=bao
unset VAULT_BIN
foreign=("${!VAULT_@}" "${!BAO_@}") # the caller's own, which must not reach this server

rm -f "$logs"/{vault,audit,c1}.log
mkdir -p "$logs" "$work/plugins" "$work/path"
install -m 0755 bin/vault-plugin-c1 "$work/plugins/"
# Not a symbolic link: a version manager's shim looks at its own path.
printf '#!%s\nexec %q "$@"\n' "$BASH" "$server" >"$work/path/$cli"
chmod 0700 "$work/path/$cli"
ln -s "$repo/bin/c1-emulator" "$work/path/c1-emulator"
ln -s "$repo/examples/policies" "$work/policies"
export PATH=$work/path:$PATH
cd "$work"
: >secrets

bold "C1, emulated, with TLS"
nohup c1-emulator -addr 127.0.0.1:0 -tls -ca-file c1-ca.pem -seed-file c1.json -running-file okta.json >"$logs/c1.log" 2>&1 &
emulator_pid=$!
answers $emulator_pid test -s c1.json || fail "the emulator did not start; see $logs/c1.log"
c1_url=$(seeded url)
echo "runs at $c1_url"

bold "$kind, as a dev server"
start_server "$server" "$work" "$logs/vault.log" || fail "the server did not start; see $logs/vault.log"
echo "runs at $VAULT_ADDR"

bold "Install: an audit device, the plugin by its checksum, a mount"
run "$cli audit enable file file_path=$logs/audit.log"
sha256=$(sha256sum plugins/vault-plugin-c1 | cut -d' ' -f1)
run "$cli plugin register -sha256=$sha256 -version=$plugin_version secret vault-plugin-c1"
run "$cli secrets enable -path=c1 -plugin-version=$plugin_version vault-plugin-c1"
run "$cli secrets tune -audit-non-hmac-response-keys=fingerprint_sha256 -audit-non-hmac-request-keys=placement c1"

bold "Configure: the mount's own C1 identity; the secret comes from a file"
own_id=$(seeded client_id)
app_id=$(seeded app_id)
connector_id=$(seeded connector_id)
decoy_id=$(seeded connector_client)
seeded client_secret | tr -d '\n' >c1-secret # a line end would be part of the secret
printf '%s\n' "$(cat c1-secret)" >>secrets
run "$cli write c1/config client_id='$own_id' client_secret=@c1-secret ca_cert=@c1-ca.pem"
run "$cli read c1/config"
shows "client_id"

bold "Bind: a name for a connector, a name for a decoy; nothing rotates yet"
run "$cli write c1/connectors/github app_id=$app_id connector_id=$connector_id rotate_on=read"
run "$cli write c1/decoys/bait decoy_id=$decoy_id rotate_on=write"
run "$cli list c1/connectors"
shows '^github$'

bold "Policies: an application that may read one, a pipeline that may write one"
run "$cli policy write app policies/app.hcl"
run "$cli policy write pipeline policies/pipeline.hcl"
run "$cli token create -policy=app -display-name=app -field=token >app-token"
run "$cli token create -policy=pipeline -display-name=pipeline -field=token >pipeline-token"
printf '%s\n' "$(cat app-token)" "$(cat pipeline-token)" >>secrets
refused "VAULT_TOKEN=\$(cat app-token) $cli read c1/config"
shows 'permission denied'

if [[ $mode == -dev ]]; then
  ((${#foreign[@]} == 0)) || echo "unset ${foreign[*]}" >./env
  cat >>./env <<END
export VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN
export PATH=$work/path:\$PATH C1_URL=$c1_url C1_CA_FILE=$work/c1-ca.pem
END
  cat >./stop <<END
#!/bin/sh
kill $emulator_pid $server_pid
rm -rf '$work'
END
  chmod +x ./stop
  trap - EXIT
  bold "It keeps running. To use it:"
  cat <<END

  . $work/env
  $cli read c1/connector-creds/github
  $cli write c1/decoy-creds/bait placement=web-1:/srv/app/.env
  $cli read c1/status
  c1-emulator findings -url \$C1_URL -ca-file \$C1_CA_FILE

To end it and remove $work:

  $work/stop

Logs: $logs/{vault,audit,c1}.log
END
  exit 0
fi

# ---------------------------------------------------------------- the story

login="c1-emulator login -url $c1_url -ca-file c1-ca.pem"

bold "A read rotates the connector's credential, and hands it out with a lease"
run "VAULT_TOKEN=\$(cat app-token) $cli read c1/connector-creds/github"
shows '^lease_id'
shows '^version +1$'
secret client_secret connector-secret
client_id=$(field client_id)
lease_id=$(field lease_id)
run "$login -client-id '$client_id' -secret-file connector-secret"

bold "The lease ends, and with it exactly that credential at C1"
run "$cli lease revoke -sync $lease_id"
refused "$login -client-id '$client_id' -secret-file connector-secret"
shows 'login failed'

bold "Wrapped: whoever carries it sees a token that opens it once"
run "VAULT_TOKEN=\$(cat app-token) $cli read -wrap-ttl=60s c1/connector-creds/github"
secret wrapping_token: wrapping-token
grep -q client_secret <<<"$out" && fail "a wrapped answer should not show the secret"
run "VAULT_TOKEN=\$(cat wrapping-token) $cli unwrap"
shows '^version +2$'
secret client_secret connector-secret
client_id=$(field client_id)
refused "VAULT_TOKEN=\$(cat wrapping-token) $cli unwrap"
run "$login -client-id '$client_id' -secret-file connector-secret"

bold "On a schedule: Vault keeps the credential, and any number of readers get the same one"
run "$cli write c1/connectors/github rotate_on=schedule rotation_period=24h grace_period=1h"
shows 'next_rotation'
run "VAULT_TOKEN=\$(cat app-token) $cli read c1/connector-creds/github"
shows '^ttl '
shows '^version +3$'
grep -q lease_id <<<"$out" && fail "what Vault keeps should have no lease"
secret client_secret connector-secret
client_id=$(field client_id)
run "VAULT_TOKEN=\$(cat app-token) $cli read -field=client_secret c1/connector-creds/github | cmp - <(printf '%s' \"\$(cat connector-secret)\") && echo 'the same for the next reader'"
run "$login -client-id '$client_id' -secret-file connector-secret"

bold "An operator rotates it now, without seeing it; the readers' next read brings the new one"
run "$cli write -f c1/connectors/github/rotate"
shows '^version +4$'
grep -q client_secret <<<"$out" && fail "an operator should see no secret"
run "VAULT_TOKEN=\$(cat app-token) $cli read c1/connector-creds/github"
shows '^version +4$'
secret client_secret connector-secret
client_id=$(field client_id)
run "$login -client-id '$client_id' -secret-file connector-secret"

bold "Programs that know only the KV API read it too, under the names that a connector knows"
run "$cli kv get -mount=c1 -field=client_id connector-creds/github"
[[ $out == "$client_id" ]] || fail "the KV API should show the same credential"
run "$cli write c1/connectors/github keys_preset=baton"
run "$cli read -format=json c1/data/connector-creds/github"
shows "\"BATON_CLIENT_ID\": \"$client_id\""
shows '"BATON_CLIENT_SECRET"'
grep -q '"client_secret"' <<<"$out" && fail "the KV view should show the names that were asked for, and no others"

bold "A connector that runs already: Vault takes its credential over, and nothing changes for it"
run "$cli write c1/connectors/okta app_id=$(seeded app_id okta.json) connector_id=$(seeded connector_id okta.json) rotate_on=schedule rotation_period=24h skip_initial_rotation=true keys_preset=baton"
seeded client_secret okta.json | tr -d '\n' >okta-secret
printf '%s\n' "$(cat okta-secret)" >>secrets
okta_id=$(seeded client_id okta.json)
run "$cli write c1/connectors/okta/adopt client_id='$okta_id' client_secret=@okta-secret credential_id=$(seeded credential_id okta.json) login=true"
shows '^version +1$'
run "$login -client-id '$okta_id' -secret-file okta-secret"
run "$cli secrets tune -options=version=2 c1"
for _ in 1 2 3 4 5; do # Vault restarts the plugin for it
  $cli kv get -mount=c1 connector-creds/okta >/dev/null 2>&1 && break
  sleep 1
done
run "$cli kv get -mount=c1 -field=BATON_CLIENT_ID connector-creds/okta"
[[ $out == "$okta_id" ]] || fail "a connector should read under its own names what was adopted"

bold "A decoy: reading is refused, so that nobody rotates bait by accident; a write vends it"
refused "$cli read c1/decoy-creds/bait"
shows 'write'
run "VAULT_TOKEN=\$(cat pipeline-token) $cli write c1/decoy-creds/bait placement=web-1:/srv/app/.env"
secret client_secret bait-secret
bait_id=$(field client_id)
planted=$(field fingerprint_sha256)
[[ $planted == "$(printf '%s' "$(cat bait-secret)" | sha256sum | cut -d' ' -f1)" ]] || fail "the fingerprint should be the secret's SHA-256"

bold "A thief finds the bait and tries it: C1 refuses, and raises a finding"
refused "$login -client-id '$bait_id' -secret-file bait-secret"
shows 'login failed'
run "c1-emulator findings -url $c1_url -ca-file c1-ca.pem"
shows "$planted"
decoy_id=$(sed -n 's/^ *"decoy_id": *"\([^"]*\)".*/\1/p' <<<"$out" | head -n 1)

bold "Whose copy was it? A finding names the decoy"
run "$cli write -format=json c1/lookup decoy_id=$decoy_id"
shows "\"fingerprint_sha256\": \"$planted\""
shows '"planted"'
shows 'web-1:/srv/app/.env'
shows 'bait'
shows 'pipeline'

bold "The mount replaces its own credential at C1; the previous one works for another hour"
run "$cli write -f c1/config/rotate-root"
shows '^expires_at '
grep -q secret <<<"$out" && fail "nobody should see the new secret"
new_id=$(field client_id)
[[ $new_id != "$own_id" ]] || fail "the client ID should be another one"
run "$cli read c1/config"
shows "^client_id +$new_id\$"
run "$login -client-id '$own_id' -secret-file c1-secret"
run "$cli write -f c1/connectors/github/rotate"
shows '^version +5$'

bold "What happened so far, and whether anything needs attention"
run "$cli read -format=json c1/connectors/github/history"
shows '"outcome": "issued"'
shows '"outcome": "stored"'
shows '"display_name": "token-app"'
run "$cli read -format=json c1/decoys/bait/history"
shows "$planted"
run "$cli read c1/status"
run "$cli read -format=raw c1/metrics | grep rotations_total"
shows 'outcome="issued"'
run "VAULT_BIN=\$(command -v $cli) $repo/scripts/doctor.sh -binary plugins/vault-plugin-c1"
shows '^nothing is wrong$'

bold "The audit log tells what was vended, and shows no secret"
run "grep -F '\"path\":\"c1/connector-creds/github\"' $logs/audit.log | grep -oE '\"(client_secret|fingerprint_sha256)\":\"[^\"]*\"'"
shows '"client_secret":"hmac-sha256:'
run "grep -F '\"path\":\"c1/decoy-creds/bait\"' $logs/audit.log | tail -n 1 | grep -oE '\"(client_secret|fingerprint_sha256|placement)\":\"[^\"]*\"'"
shows '"client_secret":"hmac-sha256:'
shows "\"fingerprint_sha256\":\"$planted\""
shows '"placement":"web-1:/srv/app/.env"'
(($(grep -c . secrets) == 10)) || fail "the list of secrets should hold all ten of this run"
echo "Lines with any secret of this run, in the audit log and in the logs of Vault, plugin and C1:"
refused "grep -c -F -f secrets $logs/audit.log $logs/vault.log $logs/c1.log"
for log in audit vault c1; do shows "/$log.log:0\$"; done

bold "Done: every step showed what it should."
