{{ with secret "c1/connector-creds/github" -}}
BATON_CLIENT_ID={{ .Data.client_id }}
BATON_CLIENT_SECRET={{ .Data.client_secret }}
{{ end -}}
