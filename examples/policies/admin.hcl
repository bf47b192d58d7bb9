# An administrator of the mount: its configuration, its bindings, its leases.
# Reading credentials is not part of the job, so no creds path is here.

path "c1/config" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}

# Replaces the mount's own credential at C1; the answer shows no secret.
path "c1/config/rotate-root" {
  capabilities = ["update"]
}

path "c1/connectors/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "c1/decoys/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "c1/lookup" {
  capabilities = ["update"]
}

path "c1/status" {
  capabilities = ["read"]
}

path "c1/check" {
  capabilities = ["update"]
}

# Install, tune, upgrade.
path "sys/mounts/c1" {
  capabilities = ["create", "read", "update", "delete"]
}

path "sys/mounts/c1/tune" {
  capabilities = ["read", "update"]
}

path "sys/plugins/catalog/secret/vault-plugin-c1" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}

path "sys/plugins/reload/secret/vault-plugin-c1" {
  capabilities = ["update", "sudo"]
}

# The same on OpenBao.
path "sys/plugins/reload/backend" {
  capabilities = ["update", "sudo"]
}

# End what was vended: vault lease revoke -prefix c1/connector-creds/github
path "sys/leases/lookup/c1/*" {
  capabilities = ["list", "sudo"]
}

path "sys/leases/revoke-prefix/c1/*" {
  capabilities = ["update", "sudo"]
}
