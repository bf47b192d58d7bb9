# Monitoring: reads the mount's figures, and what stands behind them. A scraper needs
# the first path alone; status also names what is wrong, for the person who is called.

path "c1/metrics" {
  capabilities = ["read"]
}

path "c1/status" {
  capabilities = ["read"]
}
