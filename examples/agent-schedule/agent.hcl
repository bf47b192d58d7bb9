# A Vault Agent that follows a credential which the engine rotates on a
# schedule. Any number of them may read the same binding: a read changes
# nothing. Run it in the directory of this file; VAULT_ADDR says where Vault is:
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

template_config {
  exit_on_retry_failure = true
}

# There is no lease to renew: the answer says for how many seconds it is good
# (ttl), and the Agent reads again a second after.
template {
  source               = "connector.env.tpl"
  destination          = "out/connector.env"
  perms                = "0600"
  error_on_missing_key = true
}
