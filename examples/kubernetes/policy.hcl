# What the connector's service account may do: read one credential. Not "update": a
# write rotates at once.

path "c1/connector-creds/okta" {
  capabilities = ["read"]
}

# The same by version 2 of the KV API; one of the two is enough.
path "c1/data/connector-creds/okta" {
  capabilities = ["read"]
}
