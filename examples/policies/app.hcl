# An application: reads one connector binding (rotate_on=read), and nothing else.
# Each read ends the credential that was alive before, so one application owns
# one binding: name it, never write a glob here.

path "c1/connector-creds/github" {
  capabilities = ["read"]
}
