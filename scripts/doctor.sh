#!/usr/bin/env bash
# Looks at a mount from the outside, as only the server's side can be seen, and then has
# the mount look at itself. Changes nothing.
#
#   scripts/doctor.sh [-binary FILE] [MOUNT]
#
# MOUNT is c1 unless given; -binary is the plugin's file in the plugin directory, if it
# can be reached from here. Uses the `vault` or `bao` that VAULT_BIN names, else one from
# PATH (`bao` first where BAO_ADDR is set), with its usual environment (VAULT_ADDR,
# VAULT_TOKEN, or BAO_…). The token needs `read` on sys/mounts/MOUNT, `read` and `sudo` on
# sys/plugins/catalog/secret/*, and `update` on MOUNT/check; also `list` on MOUNT/decoys and
# `read` on sys/ha-status, if it shall look there. Ends with 1 if something is wrong. Needs
# bash, coreutils, grep and sed.
set -euo pipefail

binary=
if [[ ${1:-} == -binary ]]; then
  binary=${2:?-binary needs a file}
  shift 2
fi
mount=${1:-c1}
mount=${mount%/}
names=(vault bao)
[[ -z ${BAO_ADDR:-} ]] || names=(bao vault) # vault would ask the server of VAULT_ADDR
cli=${VAULT_BIN:-$(command -v "${names[0]}" || command -v "${names[1]}" || true)}
[[ -n $cli ]] || {
  echo "neither vault nor bao is on PATH: set VAULT_BIN" >&2
  exit 2
}
# What the cures below tell to type; the file may have any name.
name=vault
reload="plugin reload -type=secret"
if [[ $("$cli" version 2>/dev/null) == *"OpenBao v"* ]]; then
  name=bao
  reload="plugin reload" # it knows no -type
fi
wrong=0

# say prints a finding and its cure.
say() {
  printf '%-8s %s: %s\n         cure: %s\n' "$1" "$2" "$3" "$4"
  [[ $1 != error ]] || wrong=1
}

# value prints the first value of a field of JSON on standard input, without quotes.
value() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" | head -n 1; }

# text prints the whole text of a field on one line of JSON.
text() {
  local text=${1#*: \"}
  text=${text%,}
  printf '%s\n' "${text%\"}"
}

about=$("$cli" read -format=json "sys/mounts/$mount") || {
  echo "there is no mount at $mount/, or the token may not read sys/mounts/$mount" >&2
  exit 2
}
kind=$(value type <<<"$about")
wanted=$(value plugin_version <<<"$about")
running=$(value running_plugin_version <<<"$about")
running_sha=$(value running_sha256 <<<"$about")
echo "$mount/ is $kind, version ${running:-unknown}"

if [[ -n $wanted && -n $running && $wanted != "$running" ]]; then
  say error "$mount" "it is pinned to $wanted and runs $running" "$name $reload -plugin=$kind"
fi

catalog=$("$cli" read -format=json "sys/plugins/catalog/secret/$kind" version="${wanted:-$running}" 2>/dev/null) || catalog=
registered_sha=$(value sha256 <<<"$catalog")
if [[ -z $registered_sha ]]; then
  say warning catalog "the version in use is not in the catalog, or the token may not read it" "$name plugin register -sha256=… -version=${running:-…} secret $kind"
elif [[ -n $running_sha && $registered_sha != "$running_sha" ]]; then
  say error catalog "it holds the checksum $registered_sha, and $running_sha runs" "$name $reload -plugin=$kind"
fi
if [[ -n $binary ]]; then
  on_disk=$(sha256sum "$binary" | cut -d' ' -f1)
  if [[ -n $registered_sha && $on_disk != "$registered_sha" ]]; then
    say error "$binary" "its checksum is $on_disk, and $registered_sha is registered: Vault will not start it again" "put the registered file back, or register this one under a new version"
  fi
fi

audited=$(sed -n '/"audit_non_hmac_response_keys": *\[/,/\]/p' <<<"$about" | tr -d ' \n')
versions=$("$cli" read -format=json sys/ha-status 2>/dev/null | sed -n 's/^ *"version": *"\(.*\)",\{0,1\}$/\1/p' | sort -u) || versions=
if (($(grep -c . <<<"$versions") > 1)); then
  say warning cluster "its nodes run different versions: $(tr '\n' ' ' <<<"$versions")" "upgrade the rest of them; each needs the plugin's registered file in its plugin directory"
fi

decoys=$("$cli" list -format=json "$mount/decoys" 2>/dev/null | grep -c '"' || true)
if ((decoys > 0)) && grep -qE '"(fingerprint_sha256|client_id)"' <<<"$audited"; then
  say warning audit "this mount has decoys, and fingerprint_sha256 or client_id is shown in clear: whoever reads the audit log can tell bait from the real thing" \
    "tune the mount with the shorter list in docs/audit.md"
fi
for key in client_secret access_token; do
  if grep -qE "\"$key\"" <<<"$audited"; then
    say error audit "$key is shown in clear in the audit log" "$name secrets tune without $key in -audit-non-hmac-response-keys, and rotate what was logged"
  fi
done

after=
while :; do
  found=$("$cli" write -format=json "$mount/check" after="$after")
  while IFS= read -r line; do
    case $line in
    *'"about":'*) item_about=$(value about <<<"$line") ;;
    *'"cure":'*) item_cure=$(text "$line") ;;
    *'"finding":'*) item_finding=$(text "$line") ;;
    *'"severity":'*) say "$(value severity <<<"$line")" "$item_about" "$item_finding" "$item_cure" ;;
    esac
  done <<<"$found"
  last=$after
  after=$(value next <<<"$found")
  [[ -n $after && $after != "$last" ]] || break
done

if ((wrong == 0)); then echo "nothing is wrong"; fi
exit "$wrong"
