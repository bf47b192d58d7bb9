# A Vault Agent that keeps a connector's credential and a planted decoy current.
# Run it in the directory of this file; VAULT_ADDR says where Vault is:
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

# The Agent renews the lease, and fetches (so rotates) anew only when it ends.
template {
  source               = "connector.env.tpl"
  destination          = "out/connector.env"
  perms                = "0600"
  error_on_missing_key = true
}

# Bait is planted by whoever builds the host, never from the host that carries
# it: a token that can read decoy-creds/ would tell a thief which one is bait. So
# would a file that is called so: copy out/web-1.env to where it shall be found.
template {
  source               = "decoy.env.tpl"
  destination          = "out/web-1.env"
  perms                = "0600"
  error_on_missing_key = true
}
