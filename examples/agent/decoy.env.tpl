{{- /*
  Bait is tried only if it looks like everybody else's: the names are those that
  a baton-* connector reads, and nothing but these lines is rendered. For a decoy
  that stands for a person's or a service's client, use the names that C1's SDKs,
  its command line and its Terraform provider read: CONDUCTORONE_CLIENT_ID and
  CONDUCTORONE_CLIENT_SECRET.
*/ -}}
{{ with secret "c1/decoy-creds/bait" "placement=web-1:/srv/app/.env" -}}
BATON_CLIENT_ID={{ .Data.client_id }}
BATON_CLIENT_SECRET={{ .Data.client_secret }}
{{ end -}}
