# An incident responder: finds out whose copies belong to what a finding names, and
# what else was issued from that binding. Changes nothing, sees no secret.

path "c1/lookup" {
  capabilities = ["update"]
}

path "c1/connectors/+/history" {
  capabilities = ["read"]
}

path "c1/decoys/+/history" {
  capabilities = ["read"]
}
