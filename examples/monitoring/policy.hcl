# What Prometheus may do: read the figures. They name no binding and no credential.

path "c1/metrics" {
  capabilities = ["read"]
}
