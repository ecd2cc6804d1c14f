#!/usr/bin/env bash
# Checks licences, bans and sources of all dependencies; known vulnerabilities too where the advisory
# database can be reached, else says that it skipped them.
# usage: deny.sh PATH_OF_CARGO_DENY
set -euo pipefail
deny=$1
"$deny" --locked check bans licenses sources
if timeout 60 "$deny" --locked fetch db >/dev/null 2>&1; then
    "$deny" --locked check --disable-fetch advisories
else
    echo "advisories: SKIPPED, the advisory database cannot be reached from here"
fi
