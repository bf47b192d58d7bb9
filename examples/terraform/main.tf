terraform {
  required_version = ">= 1.11" # write-only arguments

  required_providers {
    vault = {
      source  = "hashicorp/vault"
      version = ">= 5.9" # the ephemeral vault_generic_endpoint
    }
  }
}

provider "vault" {} # VAULT_ADDR and VAULT_TOKEN; policy.hcl is what the token may do

locals {
  mount = "c1"

  # Where the binding is, as soon as it is there. What names the resource itself is not
  # read in a plan that changes the binding, and looks like a change too.
  okta = vault_generic_endpoint.okta.id
}

# --- The engine -------------------------------------------------------------------

resource "vault_plugin" "c1" {
  type    = "secret"
  name    = "vault-plugin-c1"
  version = var.plugin_version
  command = var.plugin_command
  sha256  = var.plugin_sha256

  lifecycle {
    create_before_destroy = true # an upgrade registers the new version first
  }
}

resource "vault_mount" "c1" {
  path           = local.mount
  type           = vault_plugin.c1.name
  plugin_version = vault_plugin.c1.version

  # What the audit log shows in clear. A mount with decoys shows no more.
  audit_non_hmac_request_keys = ["rotate_on"]
  audit_non_hmac_response_keys = [
    "version", "credential_id", "app_id", "connector_id", "created_at",
    "expires_at", "rotation_period", "last_vault_rotation", "next_rotation",
  ]
}

# The identity, only when asked for: an ephemeral endpoint is written by each plan and
# each apply that opens it. The resource of this name would keep the secret in the
# state; it has no write-only argument.
ephemeral "vault_generic_endpoint" "identity" {
  count = var.write_identity ? 1 : 0

  mount_id = vault_mount.c1.id # not before the mount is there
  path     = "${local.mount}/config"
  data_json = jsonencode({ for field, value in {
    client_id     = var.c1_client_id
    client_secret = var.c1_client_secret
    url           = var.c1_url
    ca_cert       = var.c1_ca_file == null ? null : file(var.c1_ca_file)
  } : field => value if value != null })
}

# The rest of the config. Everywhere below: durations as numbers of seconds, since that
# is what is read back, and only fields that are written are compared.
resource "vault_generic_endpoint" "config" {
  depends_on = [vault_mount.c1, ephemeral.vault_generic_endpoint.identity]

  path                 = "${local.mount}/config"
  ignore_absent_fields = true
  disable_delete       = true # it goes with the mount
  data_json = jsonencode({
    max_requests_per_second = 10
    drift_check_period      = 86400
  })
}

# --- The bindings -----------------------------------------------------------------

# Rotated once when it is created, then on a schedule.
resource "vault_generic_endpoint" "okta" {
  depends_on = [vault_generic_endpoint.config]

  path                 = "${local.mount}/connectors/okta"
  ignore_absent_fields = true
  data_json = jsonencode({
    app_id          = var.okta.app_id
    connector_id    = var.okta.connector_id
    rotate_on       = "schedule"
    rotation_period = var.rotation_period
    grace_period    = 3600
    metadata        = { team = "people" }
  })
}

# Planted by a pipeline, with a write. A read of decoy-creds/bait is refused, so that
# no plan can rotate it.
resource "vault_generic_endpoint" "bait" {
  depends_on = [vault_generic_endpoint.config]

  path                 = "${local.mount}/decoys/bait"
  ignore_absent_fields = true
  data_json = jsonencode({
    decoy_id  = var.bait.decoy_id
    rotate_on = "write"
    cooldown  = 60
  })
}

# --- Who may have them ------------------------------------------------------------

resource "vault_policy" "okta_reader" {
  name   = "okta-reader"
  policy = <<-EOT
    path "${local.mount}/connector-creds/okta" {
      capabilities = ["read"]
    }
  EOT
}

resource "vault_policy" "bait_planter" {
  name   = "bait-planter"
  policy = <<-EOT
    path "${local.mount}/decoy-creds/bait" {
      capabilities = ["update"]
    }
  EOT
}

# --- The credential, to wherever it is needed -------------------------------------

# Ephemeral: in neither plan nor state. It is read by each plan and each apply, which
# changes nothing on a scheduled binding, and rotates on one with rotate_on=read.
ephemeral "vault_generic_secret" "okta" {
  mount_id = local.okta # not before the binding is there
  path     = "${local.mount}/connector-creds/okta"
}

# Its version, from the binding, which shows no secret.
data "vault_generic_secret" "okta" {
  path = local.okta
}

# Into a write-only argument, which is written again when the version is another one.
# Here Vault's KV; kubernetes_secret_v1 has data_wo, AWS's secret version
# secret_string_wo.
resource "vault_kv_secret_v2" "okta" {
  mount = var.kv_mount
  name  = "connectors/okta"

  data_json_wo_version = tonumber(nonsensitive(data.vault_generic_secret.okta.data["version"]))
  data_json_wo = jsonencode({
    BATON_CLIENT_ID     = ephemeral.vault_generic_secret.okta.data["client_id"]
    BATON_CLIENT_SECRET = ephemeral.vault_generic_secret.okta.data["client_secret"]
  })
}
