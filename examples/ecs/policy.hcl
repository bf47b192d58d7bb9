# What the Agent of this directory may do: read the current credential of one
# connector, which is rotated on a schedule. Not "update": a write rotates at once,
# and every other reader has to follow.

path "c1/connector-creds/okta" {
  capabilities = ["read"]
}
