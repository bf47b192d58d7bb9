# What baton-runner and the Agent that restarts it may do: read the current
# credential of one connector, which is rotated on a schedule. The Agent reads the
# plain path; so does baton-runner with kvapi 1, and the other one with kvapi 2. Not
# "update": a write rotates at once, and every other reader has to follow.

path "c1/connector-creds/okta" {
  capabilities = ["read"]
}

path "c1/data/connector-creds/okta" {
  capabilities = ["read"]
}
