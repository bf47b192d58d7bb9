# A team that manages its own bindings, and may point them at its own connectors
# only. A policy on names alone does not bound what a name stands for: without
# allowed_parameters the team could bind any connector that the mount's identity
# may rotate. Bindings are fixed to their target, so an update cannot move one.

path "c1/connectors/hr-*" {
  capabilities = ["create", "read", "update", "delete"]

  allowed_parameters = {
    "app_id"       = ["APP_ID"]
    "connector_id" = ["CONNECTOR_ID"]

    "rotate_on"         = []
    "rotation_period"   = []
    "rotation_schedule" = []
    "grace_period"      = []
    "cooldown"          = []
    "metadata"          = []
    "revoke"            = []
  }
}
