# One event of gatewatch as an alert for Alertmanager's API.
# The labels of a finding never change. An open alert ends by itself unless it is said again, and gatewatch repeats
# an open finding every hour (`publish.repeat_every`): so it lasts a little more than two.
[ . | {
  labels: ({
    alertname: .check, code, severity, fingerprint,
    cluster: .entity.cluster, server: .entity.server, remote: .entity.remote,
    account: .entity.account, peer_server: .entity.peer_server
  } | with_entries(select(.value != null))),
  annotations: { summary, impact, cause: "\(.cause.kind): \(.cause.detail)" },
  startsAt: .opened_at,
  endsAt: (.resolved_at // (now + 7800 | todate))
} ]
