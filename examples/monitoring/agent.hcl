# A Vault Agent that keeps a token for Prometheus in the file vault-token: Prometheus
# reads that file at each scrape, and renews nothing. Run it as Prometheus' own user,
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

  sink "file" {
    config = {
      path = "vault-token"
      mode = 0600
    }
  }
}
