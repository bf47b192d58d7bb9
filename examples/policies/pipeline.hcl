# A pipeline that plants bait: rotates one decoy binding (rotate_on=write) and
# says where the copy goes. It can write, but not read.
#
#   vault write c1/decoy-creds/bait placement=web-1:/srv/app/.env

path "c1/decoy-creds/bait" {
  capabilities = ["update"]

  allowed_parameters = {
    "placement" = []
  }
}
