# Vault Proxy for programs that know how to read Vault and not how to log in. They ask
# it at 127.0.0.1:8100 without a token. VAULT_ADDR says where Vault is:
#
#   vault proxy -config=proxy.hcl

auto_auth {
  method "approle" {
    config = {
      role_id_file_path                   = "role-id"
      secret_id_file_path                 = "secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

api_proxy {
  use_auto_auth_token = true
}

# Leased answers are kept until their lease ends: three reads of a binding with
# rotate_on=read are one rotation. Reads of a scheduled binding pass through.
cache {}

listener "tcp" {
  address     = "127.0.0.1:8100"
  tls_disable = true
}
