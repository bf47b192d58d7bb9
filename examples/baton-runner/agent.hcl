# Vault Agent as the supervisor of baton-runner, which reads its secrets when it
# starts and no more: the Agent starts it again after each rotation. Run it in the
# directory of this file; VAULT_ADDR says where Vault is:
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

# Connectors that run need no Vault, so an outage must not end them: the Agent tries
# again, once a minute at least, as good as for ever.
vault {
  retry {
    num_retries = 1000000
  }
}

template_config {
  exit_on_retry_failure = true
}

# What changes with a rotation, and is no secret. One for each binding that
# baton-runner reads; nobody reads the variable.
env_template "OKTA_CREDENTIAL_VERSION" {
  contents             = "{{ with secret \"c1/connector-creds/okta\" }}{{ .Data.version }}{{ end }}"
  error_on_missing_key = true
}

# One string, which the Agent gives to a shell: it then signals the whole process
# group, so the connectors stop with baton-runner whether or not it passes signals on.
exec {
  command                   = ["exec /usr/local/bin/baton-runner -c config.yaml"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
