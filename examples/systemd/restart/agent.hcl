# A Vault Agent that follows a credential which the engine rotates on a schedule, as
# vault-agent-okta.service runs it.

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

# A connector that runs needs no Vault, so an outage must not end the Agent: it tries
# again, once a minute at least, as good as for ever.
vault {
  retry {
    num_retries = 1000000
  }
}

template_config {
  exit_on_retry_failure = true
}

template {
  source               = "okta.env.tpl"
  destination          = "/run/c1-okta/okta.env"
  perms                = "0600"
  error_on_missing_key = true
}
