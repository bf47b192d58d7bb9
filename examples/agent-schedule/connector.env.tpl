{{ with secret "c1/connector-creds/okta" -}}
# Version {{ .Data.version }}, rotated at {{ .Data.last_vault_rotation }}.
BATON_CLIENT_ID={{ .Data.client_id }}
BATON_CLIENT_SECRET={{ .Data.client_secret }}
{{ end -}}
