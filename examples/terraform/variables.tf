# The plugin, as it lies in the server's plugin directory.
variable "plugin_version" {
  type        = string
  description = "What `vault-plugin-c1 -version` prints."
}

variable "plugin_sha256" {
  type        = string
  description = "What `sha256sum` says of the binary."
}

variable "plugin_command" {
  type        = string
  description = "File name of the binary."
  default     = "vault-plugin-c1"
}

# The mount's identity at C1.
variable "write_identity" {
  type        = bool
  description = "Write client ID and secret into the mount's config: with the first apply, and when there is a new credential."
  default     = false
}

variable "c1_client_id" {
  type    = string
  default = null
}

# Ephemeral: in neither plan nor state. Set it in the environment, as
# TF_VAR_c1_client_secret.
variable "c1_client_secret" {
  type      = string
  sensitive = true
  ephemeral = true
  default   = null
}

# Only where the tenant does not follow from the client ID, or has a CA of its own.
variable "c1_url" {
  type    = string
  default = null
}

variable "c1_ca_file" {
  type    = string
  default = null
}

# What to bind: C1's IDs.
variable "okta" {
  type = object({ app_id = string, connector_id = string })
}

variable "bait" {
  type = object({ decoy_id = string })
}

variable "rotation_period" {
  type        = number
  description = "Seconds from one rotation of the connector's credential to the next."
  default     = 86400
}

# Where the credential goes.
variable "kv_mount" {
  type        = string
  description = "A mount of KV version 2 that is there."
  default     = "secret"
}
