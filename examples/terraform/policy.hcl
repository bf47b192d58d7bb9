# What the token that runs this configuration may do. The provider works with a child of
# it, which lives for 20 minutes.

path "auth/token/create" {
  capabilities = ["update"]
}

# Install, mount, tune, upgrade.
path "sys/plugins/catalog/secret/vault-plugin-c1" {
  capabilities = ["create", "read", "update", "delete", "sudo"]
}

path "sys/mounts/c1" {
  capabilities = ["create", "read", "update", "delete"]
}

path "sys/mounts/c1/tune" {
  capabilities = ["update"]
}

path "sys/policies/acl/okta-reader" {
  capabilities = ["create", "read", "update", "delete"]
}

path "sys/policies/acl/bait-planter" {
  capabilities = ["create", "read", "update", "delete"]
}

path "c1/config" {
  capabilities = ["create", "read", "update"]
}

path "c1/connectors/okta" {
  capabilities = ["create", "read", "update", "delete"]
}

path "c1/decoys/bait" {
  capabilities = ["create", "read", "update", "delete"]
}

# The one credential that goes elsewhere. Each plan reads it: never such a rule for a
# binding with rotate_on=read.
path "c1/connector-creds/okta" {
  capabilities = ["read"]
}

path "secret/data/connectors/okta" {
  capabilities = ["create", "read", "update", "delete"]
}

# The provider reads a secret's own metadata, and writes them back with each change.
path "secret/metadata/connectors/okta" {
  capabilities = ["create", "read", "update"]
}
