# consul-template as the parent of a connector. VAULT_ADDR and VAULT_TOKEN say where
# Vault is and who asks:
#
#   consul-template -config=consul-template.hcl

vault {
  renew_token = true # keeps a periodic token alive
}

template {
  contents             = "{{ with secret \"c1/connector-creds/okta\" }}BATON_CLIENT_ID={{ .Data.client_id }}\nBATON_CLIENT_SECRET={{ .Data.client_secret }}\n{{ end }}"
  destination          = "out/connector.env"
  perms                = "0600"
  error_on_missing_key = true
}

# The child reads the file, and is stopped and started anew when it changes. With a
# reload_signal, even an empty one, it would go on with the old credential.
exec {
  command      = ["sh", "-c", "set -a; . ./out/connector.env; exec \"$0\" \"$@\"", "/usr/local/bin/baton-okta"]
  kill_signal  = "SIGTERM"
  kill_timeout = "10s"
}
