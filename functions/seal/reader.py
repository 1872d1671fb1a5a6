#!/usr/bin/env python3
"""Reads app-offload's messages: from an MQTT broker, or from files. Prints one JSON line a record.

  reader.py --host broker.example --key 2026-01=@/etc/offload/2026-01.key
  reader.py --file batch.pb --key k32=80818283...

Needs python3-paho-mqtt (not for --file) and python3-pycryptodome (not for unsealed messages), as Debian packages them;
for payloads compressed with zstd also the module zstandard or the command zstd. FORMAT.md says what it does and why.
It sends no receipts: run it beside the consumer, not instead of it.
"""
import argparse
import base64
import gzip
import io
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import urllib.parse
from datetime import datetime, timedelta, timezone

LIMIT = 64 << 20  # bytes of a payload once decompressed, and once unfolded
ROOT = "/offload/v1/"
KNOWN = {"count": int}  # attributes that are not text


class Refused(Exception):
    """The message is malformed, forged, too large, or its key or decompressor is missing."""


# --- protobuf, as far as it is needed ------------------------------------------------------------------------------


def varint(b, at):
    value = shift = 0
    while True:
        if at >= len(b) or shift > 63:
            raise Refused("bad varint")
        value |= (b[at] & 0x7F) << shift
        shift += 7
        at += 1
        if b[at - 1] < 0x80:
            return value & (1 << 64) - 1, at


def fields(b):
    """Yields (number, value) of each field: int for varint and fixed, bytes otherwise."""
    at = 0
    while at < len(b):
        key, at = varint(b, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(b, at)
        else:
            if kind == 2:
                size, at = varint(b, at)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise Refused("bad wire type")
            value, at = b[at:at + size], at + size
            if at > len(b):
                raise Refused("cut off")
            if kind != 2:
                value = int.from_bytes(value, "little")
        yield key >> 3, value


def signed(n):
    return n - (1 << 64) if n >> 63 else n


# --- the message ---------------------------------------------------------------------------------------------------


def parse(msg):
    """Returns (attributes as canonical text, data, whether the data is plain JSON in the message)."""
    if msg[:1] == b"{":
        return parse_json(msg)
    names = {1: "id", 2: "source", 3: "specversion", 4: "type"}
    attrs, data = {}, None
    for number, value in fields(msg):
        if number in names:
            attrs[names[number]] = value.decode()
        elif number == 5:
            entry = dict(fields(value))
            name = entry[1].decode()
            if name in attrs:
                raise Refused("duplicate attribute %s" % name)
            attrs[name] = attribute(entry[2])
        elif number == 6:
            data = value
    if data is None:
        raise Refused("no binary_data")
    return attrs, data, False


def attribute(value):
    (kind, v), = fields(value)
    if kind == 1:
        return "true" if v else "false"
    if kind == 2:
        return str(signed(v))
    if kind == 7:
        parts = dict(fields(v))
        return time_text(signed(parts.get(1, 0)), parts.get(2, 0))
    if kind == 4:
        return base64.b64encode(v).decode()
    return v.decode()


def time_text(seconds, nanos):
    t = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    fraction = (".%09d" % nanos).rstrip("0") if nanos else ""
    return "%04d-%02d-%02dT%02d:%02d:%02d%sZ" % (t.year, t.month, t.day, t.hour, t.minute, t.second, fraction)


def parse_json(msg):
    ce = json.loads(msg)
    inline = "data" in ce
    data = ce.pop("data") if inline else base64.b64decode(ce.pop("data_base64"), validate=True)
    for name, value in ce.items():
        if not isinstance(value, KNOWN.get(name, str)):
            raise Refused("attribute %s has the wrong type" % name)
    return {name: str(value) for name, value in ce.items()}, data, inline


def aad(attrs):
    """The bytes that are authenticated with the payload."""
    out = b"offload-aad-v1\n"
    for name in sorted(attrs):
        value = attrs[name].encode()
        out += b"%s=%d:%s\n" % (name.encode(), len(value), value)
    return out


# --- the payload ---------------------------------------------------------------------------------------------------


def decrypt(attrs, data, keys):
    cipher = attrs.get("cipher")
    if cipher == "none":
        if keys:
            raise Refused("not sealed, although there are keys (--allow-plain accepts it)")
        return data
    try:
        from Cryptodome.Cipher import AES
    except ImportError:
        from Crypto.Cipher import AES
    mode, size = {"aes-256-gcm": (AES.MODE_GCM, 12), "aes-eax": (AES.MODE_EAX, 16)}[cipher]
    key = keys.get(attrs.get("keyid"))
    if key is None:
        raise Refused("no key %r" % attrs.get("keyid"))
    box = AES.new(key, mode, nonce=data[:size], mac_len=16)
    box.update(aad(attrs))
    try:
        return box.decrypt_and_verify(data[size:-16], data[-16:])
    except ValueError:
        raise Refused("forged, or altered in transit") from None


def decompress(name, data):
    if name == "none":
        return data
    if name == "gzip":
        out = gzip.GzipFile(fileobj=io.BytesIO(data)).read(LIMIT + 1)
    elif name == "zstd":
        out = unzstd(data)
    else:
        raise Refused("unknown contentencoding %r" % name)
    if len(out) > LIMIT:
        raise Refused("too large")
    return out


def unzstd(data):
    try:
        import zstandard
        reader = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(data, read_across_frames=True)
        return reader.read(LIMIT + 1)
    except ImportError:
        pass
    if not shutil.which("zstd"):
        raise Refused("compressed with zstd: install python3-zstandard or zstd, or set Compression to gzip")
    with tempfile.TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        tool = subprocess.Popen(["zstd", "-dcq", "--memory=8MB"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        out = tool.stdout.read(LIMIT + 1)
        if len(out) > LIMIT:
            tool.kill()
        tool.stdout.close()
        if tool.wait() and len(out) <= LIMIT:
            raise Refused("zstd cannot decompress it")
    return out


MARK = re.compile(b"[\xf5-\xff]")


def unfold(data):
    """Puts ids, digits and base64 back to where the marks in the text are."""
    ids_n, digits_n, blobs_n = struct.unpack("<3I", data[:12])
    text_n = len(data) - 12 - ids_n - digits_n - blobs_n
    if text_n < 0:
        raise Refused("bad fold")
    columns = {}
    at = 12 + text_n
    for name, size in ("ids", ids_n), ("digits", digits_n), ("blobs", blobs_n):
        columns[name] = io.BytesIO(data[at:at + size])
        at += size
    text, at, out, size, last_id, last_long = data[12:12 + text_n], 0, [], 0, None, None

    def take(name, n):
        b = columns[name].read(n)
        if len(b) != n:
            raise Refused("bad fold")
        return b

    while True:
        found = MARK.search(text, at)
        piece = text[at:found.start() if found else None]
        out.append(piece)
        size += len(piece)
        if size > LIMIT:
            raise Refused("too large")
        if not found:
            return b"".join(out)
        mark, at = text[found.start()], found.end()
        if mark == 0xF5:
            piece, at = text[at:at + 1], at + 1
        elif mark in (0xF6, 0xF7):
            if mark == 0xF6:
                h = take("ids", 16).hex()
                last_id = "-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:])).encode()
            piece = last_id
        elif mark == 0xF8:
            n, at = varint(text, at)
            piece = base64.b64encode(take("blobs", 3 * n))
        elif mark == 0xFF:
            n, at = varint(text, at)
            piece = take("blobs", n)
        elif mark == 0xF9:
            piece = last_long
        else:
            n = {0xFA: 2, 0xFB: 3, 0xFC: 4, 0xFD: 9}.get(mark)
            if n is None:
                n, at = varint(text, at)
            piece = b"".join(b"%02d" % pair for pair in take("digits", n))
            if n >= 8:
                last_long = piece
        if piece is None:
            raise Refused("bad fold")
        out.append(piece)
        size += len(piece)


# --- batches -------------------------------------------------------------------------------------------------------

ENCODINGS = {1: "json", 2: "cbor", 3: "text", 4: "binary", 5: "raw"}
TASK = {1: "eventId", 2: "device", 3: "profile", 4: "source", 5: "resource", 6: "class", 18: "holes", 22: "policy", 24: "correlationId"}
NUMBERS = {7: "origin", 8: "received", 9: "chunk", 10: "of", 15: "offset", 16: "count", 17: "hole", 20: "deadlineMs", 23: "priority"}
FLOATS = {19: "complexity", 21: "score"}


def task(b):
    """One record of task.proto."""
    r, data, encoding = {"chunk": 0}, b"", 0
    for number, v in fields(b):
        if number == 13:
            data = v
        elif number == 12:
            encoding = v
        elif number == 18:
            h = dict(fields(v))
            hole = {"resource": h.get(1, b"").decode(), "at": h.get(2, 0), "length": h.get(3, 0), "encoding": ENCODINGS.get(h.get(4))}
            r.setdefault("holes", []).append(hole)
        elif number in TASK:
            r[TASK[number]] = v.decode()
        elif number in NUMBERS:
            r[NUMBERS[number]] = signed(v)
        elif number in FLOATS:
            r[FLOATS[number]] = struct.unpack("<f", struct.pack("<I", v))[0]
        elif number == 11:
            r["critical"] = bool(v)
    r["encoding"] = ENCODINGS.get(encoding)
    try:
        if encoding == 1:
            r["event"] = json.loads(data)
        elif encoding == 3:
            r["text"] = data.decode()
        else:
            r["base64"] = base64.b64encode(data).decode()
    except ValueError:
        r["base64"] = base64.b64encode(data).decode()
    return r


def protobuf_records(data):
    sequences, tasks, last = [], [], 0
    for number, v in fields(data):
        if number == 3:
            at = 0
            while at < len(v):
                d, at = varint(v, at)
                last = (last + ((d >> 1) ^ -(d & 1))) & (1 << 64) - 1
                sequences.append(last)
        elif number == 4:
            tasks.append(v)
    if len(sequences) != len(tasks):
        raise Refused("%d sequences for %d tasks" % (len(sequences), len(tasks)))
    return [dict(task(t), sequence=s) for s, t in zip(sequences, tasks)]


def read(msg, keys, allow_plain=False):
    """Returns the records of a batch, or the one statement of any other message."""
    attrs, data, inline = parse(msg)
    if attrs.get("specversion") != "1.0":
        raise Refused("specversion is not 1.0")
    if inline and attrs.get("cipher") != "none":
        raise Refused("sealed data must be in data_base64")
    plain = attrs.get("cipher") == "none" and allow_plain
    data = decrypt(attrs, data, {} if plain else keys)
    if not inline:
        encoding = attrs.get("contentencoding", "")
        fold = encoding.startswith("fold-")
        data = decompress(encoding[5:] if fold else encoding, data)
        data = unfold(data) if fold else data
        if attrs["datacontenttype"] == "application/json":
            data = json.loads(data)
    if attrs["type"] != "offload.batch.v1":
        return [dict(data, type=attrs["type"], id=attrs["id"])]
    records = data["records"] if isinstance(data, dict) else protobuf_records(data)
    if len(records) != int(attrs["count"]) or records[0]["sequence"] != int(attrs["sequence"]):
        raise Refused("the records are not those that the attributes promise")
    node = urllib.parse.unquote(attrs["source"][len(ROOT + "node/"):])
    place = {"node": node, "epoch": attrs["epoch"], "batch": attrs["id"]}
    if "session" in attrs:
        place["session"] = attrs["session"]
    return [dict(place, **r) for r in records]


def show(name, msg, args):
    try:
        for r in read(msg, args.keys, args.allow_plain):
            print(json.dumps(r, ensure_ascii=False), flush=True)
        return True
    except (Refused, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError) as e:
        print("%s: refused: %s: %s" % (name, type(e).__name__, e), file=sys.stderr, flush=True)
        return False


def key_argument(s):
    name, eq, value = s.partition("=")
    if not eq:
        raise argparse.ArgumentTypeError("write it as id=hex or id=@file")
    if not value.startswith("@"):
        return name, bytes.fromhex(value)
    with open(value[1:], "rb") as f:
        raw = f.read()
    if len(raw) in (16, 24, 32):
        return name, raw
    return name, bytes.fromhex(raw.decode().strip())


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--file", nargs="+", help="read messages from files instead of a broker")
    p.add_argument("--host", default="localhost")
    p.add_argument("--port", type=int, default=1883)
    p.add_argument("--topic", default="offload/v1/+/batch/#")
    p.add_argument("--user")
    p.add_argument("--password-file", help="file with the password of --user")
    p.add_argument("--cafile", help="use TLS and trust these authorities")
    p.add_argument("--count", type=int, default=0, help="end after so many messages; 0 is never")
    p.add_argument("--key", action="append", type=key_argument, default=[], metavar="ID=HEX|ID=@FILE")
    p.add_argument("--allow-plain", action="store_true", help="accept messages that are not sealed although there are keys")
    args = p.parse_args()
    args.keys = dict(args.key)
    return args


def subscribe(args):
    import paho.mqtt.client as mqtt

    seen = 0

    def on_message(client, _, m):
        nonlocal seen
        show(m.topic, m.payload, args)
        seen += 1
        if seen == args.count:
            client.disconnect()

    new = getattr(mqtt, "CallbackAPIVersion", None)  # paho-mqtt 2 wants to know which callbacks it gets
    client = mqtt.Client(new.VERSION1) if new else mqtt.Client()
    client.on_connect = lambda c, *_: c.subscribe(args.topic, qos=1)
    client.on_message = on_message
    if args.user:
        with open(args.password_file) as f:
            client.username_pw_set(args.user, f.read().strip())
    if args.cafile:
        client.tls_set(args.cafile)
    client.connect(args.host, args.port)
    client.loop_forever()


def main():
    args = arguments()
    if not args.file:
        subscribe(args)
        return 0
    good = True
    for name in args.file:
        with open(name, "rb") as f:
            good = show(name, f.read(), args) and good
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
