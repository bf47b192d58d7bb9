# What the Agent of this directory may do: read its connector's credential, and
# write (a template with parameters writes) the decoy that it plants.

path "c1/connector-creds/github" {
  capabilities = ["read"]
}

path "c1/decoy-creds/bait" {
  capabilities = ["update"]
}
