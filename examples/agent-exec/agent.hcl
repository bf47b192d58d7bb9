# Vault Agent as the supervisor of a connector. A connector reads its credential
# once, when it starts: the Agent starts it with the credential in its
# environment, never on a disk, and starts it again after each rotation. Run it
# in the directory of this file; VAULT_ADDR says where Vault is:
#
#   vault agent -config=agent.hcl

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

# A connector that runs needs no Vault, so an outage must not end it: the Agent
# tries again, once a minute at least, as good as for ever. When its tries are
# used up, it ends and leaves the connector behind; told not to end
# (exit_on_retry_failure = false), Vault's 1.21 prints what it renders to its log.
vault {
  retry {
    num_retries = 1000000
  }
}

template_config {
  exit_on_retry_failure = true
}

# Both come from one answer, so the two always belong together.
env_template "BATON_CLIENT_ID" {
  contents             = "{{ with secret \"c1/connector-creds/okta\" }}{{ .Data.client_id }}{{ end }}"
  error_on_missing_key = true
}

env_template "BATON_CLIENT_SECRET" {
  contents             = "{{ with secret \"c1/connector-creds/okta\" }}{{ .Data.client_secret }}{{ end }}"
  error_on_missing_key = true
}

# Stopped with SIGTERM, and after 30 seconds by force. When it ends by itself, so
# does the Agent: have systemd, or whatever starts the Agent, start it again.
exec {
  command                   = ["/usr/local/bin/baton-okta"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
