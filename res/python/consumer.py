#!/usr/bin/python3
"""A consumer of app-offload's readable form: stores records, receipts them, prints whole events. python3 consumer.py HOST PORT DB

Needs paho-mqtt. Reads batches that are neither sealed nor compressed (Seal.Form json, no key); functions/seal/FORMAT.md describes all others."""
import base64, json, sqlite3, sys, time, uuid  # noqa: E401
import paho.mqtt.client as mqtt

ME = "readme"
db = sqlite3.connect(sys.argv[3], check_same_thread=False, isolation_level=None)
db.execute("CREATE TABLE IF NOT EXISTS records (node, epoch, sequence, event, chunk, record, PRIMARY KEY (node, epoch, sequence))")


def message(kind, source, subject, data):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return json.dumps({"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/offload/v1/" + source, "type": f"offload.{kind}.v1",
                       "subject": subject, "time": now, "datacontenttype": "application/json", "contentencoding": "none", "cipher": "none", "data": data})


def whole(node, event, of):
    """Join the chunks of an event, once all are there. Chunk 0 is the frame: the event, with its long values cut out."""
    rows = db.execute("SELECT record FROM records WHERE node = ? AND event = ? GROUP BY chunk ORDER BY chunk", (node, event)).fetchall()
    frame, *chunks = [json.loads(row[0]) for row in rows]
    if {h["encoding"] for h in frame.get("holes", [])} - {"text", "binary"}:
        return  # an event above the limit of a message, cut by its readings: task.proto says how to join its bytes
    if len(rows) == of and not frame.get("chunk", 0):
        empty = iter([r for r in frame["event"]["readings"] if r.get("value", "") in ("", "[]") and not r.get("binaryValue")])
        for number, hole in enumerate(frame.get("holes", [])):
            reading = next(r for r in empty if r["resourceName"] == hole["resource"])
            parts = [c for c in chunks if c.get("hole", 0) == number]
            if hole["encoding"] == "text":
                reading["value"] = "[" + ",".join(c["text"] for c in parts) + "]"
            else:
                reading["binaryValue"] = base64.b64encode(b"".join(base64.b64decode(c["base64"]) for c in parts)).decode()
        print(json.dumps(frame["event"]), flush=True)


def on_batch(client, _, m):
    head = json.loads(m.payload)
    batch = head["data"]
    new, safe, conflicts = [], [], []
    db.execute("BEGIN")
    for r in batch["records"]:
        key, record = (batch["node"], batch["epoch"], str(r["sequence"])), json.dumps(r)
        if db.execute("INSERT OR IGNORE INTO records VALUES (?, ?, ?, ?, ?, ?)", (*key, r["eventId"], r.get("chunk", 0), record)).rowcount:
            new.append(r)
        stored = db.execute("SELECT record FROM records WHERE node = ? AND epoch = ? AND sequence = ?", key).fetchone()[0]
        (safe if stored == record else conflicts).append([r["sequence"], r["sequence"]])  # a copied spool reuses sequences
    db.execute("COMMIT")  # only records on disk are receipted
    receipt = {"node": batch["node"], "epoch": batch["epoch"], "safe": safe}
    if conflicts:
        receipt["conflicts"] = conflicts
    if "session" in head:
        receipt["session"] = head["session"]
    client.publish(f"offload/v1/{batch['node']}/receipt", message("receipt", "cloud/" + batch["node"], batch["node"], receipt), qos=1)
    for event, of in {r["eventId"]: r.get("of", 1) for r in new}.items():
        whole(batch["node"], event, of)


new = getattr(mqtt, "CallbackAPIVersion", None)  # paho-mqtt 2 requires the version of the callbacks
args = {"client_id": ME, "clean_session": False}
client = mqtt.Client(new.VERSION1, **args) if new else mqtt.Client(**args)
client.on_connect = lambda c, *_: c.subscribe("offload/v1/+/batch/+", qos=1)
client.on_subscribe = lambda c, *_: c.publish("offload/v1/consumer", message("consumer", "consumer/" + ME, ME, {"consumer": ME}), qos=1)
client.on_message = on_batch
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
