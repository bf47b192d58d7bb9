# What the program of this directory may do: read the current credential of one
# connector, which is rotated on a schedule. The second path is the same by the KV
# API, version 2; keep the one that you use. Not "update": a write rotates at once,
# and every other reader has to follow.

path "c1/connector-creds/okta" {
  capabilities = ["read"]
}

path "c1/data/connector-creds/okta" {
  capabilities = ["read"]
}
