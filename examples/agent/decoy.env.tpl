{{ with secret "c1/decoy-creds/bait" "placement=web-1:/srv/app/.env" -}}
C1_CLIENT_ID={{ .Data.client_id }}
C1_CLIENT_SECRET={{ .Data.client_secret }}
{{ end -}}
