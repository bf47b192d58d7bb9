# Vault Agent as the first process of a task on ECS, and the parent of the connector.
# It logs in with the task's role; nothing has to be handed to it. The connector gets
# its credential in its environment and is restarted after each rotation.

auto_auth {
  method "aws" {
    mount_path = "auth/aws"
    config = {
      type = "iam"
      role = "c1-okta"
      # What iam_server_id_header_value says in auth/aws/config/client: a login that
      # somebody recorded at another Vault is then none here.
      header_value = "vault.example.com"
    }
  }
}

# A connector that runs needs no Vault, so an outage must not end it: the Agent tries
# again, once a minute at least, as good as for ever.
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

# Stopped with SIGTERM, and after 30 seconds by force. When it ends by itself, so does
# the Agent, and with it the task: the service starts another one.
exec {
  command                   = ["/usr/local/bin/baton-okta"]
  restart_on_secret_changes = "always"
  restart_stop_signal       = "SIGTERM"
}
