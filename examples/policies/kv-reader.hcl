# A reader that takes the mount for a KV v2 engine, such as a SecretStore or C1's
# baton-runner: reads one scheduled binding. Such a read never rotates. One that takes it
# for KV v1 needs "c1/connector-creds/okta" instead.

path "c1/data/connector-creds/okta" {
  capabilities = ["read"]
}
