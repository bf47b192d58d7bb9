{{- /*
  An EnvironmentFile is no shell script: systemd expands no $, and a # is a comment
  only where a line begins. It does take away backslashes and quotes, and spaces at
  both ends. Nothing of all that is in a credential of C1: letters, digits and
  - _ . : @ / = are. Any other character is an error here, so that what systemd would
  read differently is never written.
*/ -}}
{{ with secret "c1/connector-creds/okta" -}}
{{ if not (.Data.client_id | regexMatch "^[A-Za-z0-9._:@/=-]+$") }}{{ sprig_fail "client_id has a character that systemd may read differently" }}{{ end -}}
{{ if not (.Data.client_secret | regexMatch "^[A-Za-z0-9._:@/=-]+$") }}{{ sprig_fail "client_secret has a character that systemd may read differently" }}{{ end -}}
BATON_CLIENT_ID={{ .Data.client_id }}
BATON_CLIENT_SECRET={{ .Data.client_secret }}
{{ end -}}
