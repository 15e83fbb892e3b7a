#!/usr/bin/env python3
"""Pages someone when a critical finding opens, and says when it is over.

Reads a stream, so that nothing is lost while it is away, and acknowledges a finding once the pager took it.

    pip install -r docs/examples/requirements.txt
    NATS_URL=nats://127.0.0.1:4222 NATS_CREDS=app.creds PAGE_URL=https://example.net/hook docs/examples/page.py
"""

import asyncio
import json
import os
import signal
import urllib.request

import nats
from nats.errors import TimeoutError
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

STREAM = os.environ.get("STREAM", "FINDINGS")
PREFIX = os.environ.get("PREFIX", "gatewatch")
PAGE_URL = os.environ["PAGE_URL"]
RETRY_S = 5


def page(finding):
    """POSTs what a pager needs; the fingerprint is the same when it opens and when it resolves."""
    body = {
        "key": finding["fingerprint"],
        "event": finding["action"],
        "text": f"{finding['code']} {finding['summary']}",
        "details": {key: finding[key] for key in ("impact", "cause", "remediation", "entity")},
    }
    request = urllib.request.Request(
        PAGE_URL, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=10).close()


async def main():
    connection = await nats.connect(
        os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","),
        user_credentials=os.environ.get("NATS_CREDS"),
        max_reconnect_attempts=-1,
    )
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # At its first start it begins with now; from then on where it was.
    consumer = await connection.jetstream().pull_subscribe(
        f"{PREFIX}.finding.critical.>",
        durable="pager",
        stream=STREAM,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW, ack_wait=30, max_ack_pending=1),
    )
    print("paging", flush=True)
    while not stop.is_set():
        try:
            [message] = await consumer.fetch(1, timeout=1)
        except TimeoutError:
            continue
        except APIError as error:
            # Nobody leads the consumer for a moment: at its first start, and when a server restarts.
            print(f"not read, trying again: {error}", flush=True)
            await asyncio.sleep(1)
            continue
        finding = json.loads(message.data)
        if finding["action"] in ("opened", "resolved"):
            try:
                await asyncio.to_thread(page, finding)
            except OSError as error:
                print(f"not paged, trying again: {error}", flush=True)
                await message.nak(delay=RETRY_S)
                continue
        await message.ack()
    await connection.drain()


asyncio.run(main())
