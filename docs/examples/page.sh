#!/usr/bin/env bash
# Pages someone when a critical finding opens, and says when it is over. Needs nats, jq and curl.
#   PAGE_URL=https://example.net/hook docs/examples/page.sh --context ops
# It hears only what is published while it runs; page.py reads a stream and forgets nothing.
set -euo pipefail
nats sub --raw 'gatewatch.finding.critical.>' "$@" |
    jq --unbuffered -c 'select(.action == "opened" or .action == "resolved")
        | {key: .fingerprint, event: .action, text: "\(.code) \(.summary)"}' |
    while read -r page; do
        curl -fsS --retry 5 --retry-all-errors -H 'Content-Type: application/json' -d "$page" "$PAGE_URL" ||
            echo "not paged: $page" >&2
    done
