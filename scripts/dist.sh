#!/usr/bin/env bash
# Makes everything that a release publishes, in dist/, from this source alone:
# whoever runs it on the same commit gets the same bytes. Called by `make dist`.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC

# The compiler is part of the bytes: exactly this one, fetched if need be.
GOTOOLCHAIN=$(awk '$1 == "toolchain" { print $2 }' tools/dist/go.mod)
export GOTOOLCHAIN
# So are flags that somebody's environment or `go env -w` may set.
export GOFLAGS=-mod=readonly GOAMD64=v1 GOARM64=v8.0 GOWORK=off
for name in GOEXPERIMENT GOFIPS140; do
  value=$(go env "$name")
  case $value in '' | off) ;; *) echo "$name is $value: releases are built without" >&2; exit 1 ;; esac
done

TAG=$(cat VERSION)
VERSION=${TAG#v}
read -r source TIME < <(scripts/source.sh)
DATE=$(date -u -d "@$TIME" +%FT%TZ 2>/dev/null || date -u -r "$TIME" +%FT%TZ) # GNU, else BSD
COMMIT=${source:0:12}
[[ $source == unknown ]] && COMMIT=unknown
[[ $source != *-dirty ]] || COMMIT+=-dirty
TAGS=$(cat cmd/vault-plugin-c1/tags)
export TAG VERSION TIME DATE COMMIT TAGS

echo "Building $TAG from $source with $GOTOOLCHAIN" >&2
[[ $source != *-dirty ]] || echo "This tree is not clean: what it builds says so, and nobody can build it again." >&2
go mod download
(cd tools/dist && "$OLDPWD"/scripts/go-build.sh "the release tool" -buildvcs=false -o ../../bin/dist .)
(cd tools/goreleaser && "$OLDPWD"/scripts/go-build.sh "GoReleaser: 10 minutes the first time" -buildvcs=false \
  -o ../../bin/goreleaser github.com/goreleaser/goreleaser/v2)

rm -rf dist
mkdir -p dist bin
GOFLAGS="$GOFLAGS -tags=$TAGS" bin/dist notices bin/THIRD_PARTY_NOTICES.txt
# A snapshot publishes nothing and works without git.
bin/goreleaser release --snapshot --clean
bin/dist finish -version "$TAG" -commit "$source" -time "$TIME" bin/goreleaser-dist/artifacts.json
echo "dist/ holds $(find dist -type f | wc -l) files, $(du -sh dist | cut -f1); see docs/verify.md" >&2
