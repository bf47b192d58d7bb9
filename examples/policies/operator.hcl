# An operator: manages bindings and sees what happened to them, without sight of
# any secret: the two creds paths and the configuration's write are missing.

path "c1/config" {
  capabilities = ["read"]
}

# The list, each binding, its history, …/pause, …/resume and …/rotate; and …/adopt, which
# takes a secret that somebody has already. None of them shows one.
path "c1/connectors/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "c1/decoys/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "c1/status" {
  capabilities = ["read"]
}

# What does not work, or soon will not, and the cure. Changes nothing.
path "c1/check" {
  capabilities = ["update"]
}
