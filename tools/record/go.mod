module github.com/c1-community/vault-plugin-c1/tools/record

go 1.26.0
