#!/usr/bin/env bash
# Feeds findings to Prometheus Alertmanager. Needs nats, jq and curl.
#   ALERTMANAGER=http://127.0.0.1:9093 docs/examples/alertmanager.sh --context ops
# What is open is said again every hour, so an alert that was missed comes then.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
url=${ALERTMANAGER:-http://127.0.0.1:9093}/api/v2/alerts
nats sub --raw 'gatewatch.finding.>' "$@" | jq --unbuffered -c -f "$here/alertmanager.jq" |
    while read -r alerts; do
        curl -fsS --retry 5 --retry-all-errors -H 'Content-Type: application/json' -d "$alerts" "$url" ||
            echo "not taken by $url: $alerts" >&2
    done
