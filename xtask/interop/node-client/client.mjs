// A client of Oblivious HTTP in Node over @hpke/core and bhttp-js: RELAY TARGET FILE MANNER.
//
// What RFC 9458 says beyond HPKE and binary HTTP is written here from the RFC. Prints one JSON object per line: what was
// checked, and how it went.

import { createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Aes128Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from "@hpke/core";
import { BHttpDecoder, BHttpEncoder } from "bhttp-js";

const [relay, target, file, manner] = process.argv.slice(2);
const payload = await readFile(file);
const X25519 = 0x0020;
const SUITE = new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes128Gcm() });
const ENC = 32;
const TAG = 16;

/** The configurations of a list (RFC 9458 3.2). A key of a KEM that is unknown here has an unknown length. */
function configurations(list) {
  const found = [];
  for (let at = 0; at < list.length; ) {
    const end = at + 2 + list.readUInt16BE(at);
    if (end > list.length) throw new Error("the list is cut off");
    const kem = list.readUInt16BE(at + 3);
    found.push({ id: list[at + 2], kem, key: kem === X25519 ? list.subarray(at + 5, at + 5 + 32) : undefined });
    at = end;
  }
  return found;
}

/** Seals a binary message to a key (RFC 9458 4.3). */
async function seal(config, plain) {
  const header = Buffer.from([config.id, X25519 >> 8, X25519 & 255, 0, 1, 0, 1]);
  const recipientPublicKey = await SUITE.kem.deserializePublicKey(config.key);
  const info = Buffer.concat([Buffer.from("message/bhttp request\0"), header]);
  const context = await SUITE.createSenderContext({ recipientPublicKey, info });
  const sealed = Buffer.from(await context.seal(plain));
  const secret = Buffer.from(await context.export(Buffer.from("message/bhttp response"), 16));
  return { bytes: Buffer.concat([header, Buffer.from(context.enc), sealed]), enc: Buffer.from(context.enc), secret };
}

/** Opens the answer to a sealed request (RFC 9458 4.4). */
async function open(request, sealed) {
  const [nonce, rest] = [sealed.subarray(0, 16), sealed.subarray(16)];
  const derive = (label, length) =>
    Buffer.from(hkdfSync("sha256", request.secret, Buffer.concat([request.enc, nonce]), label, length));
  const opener = createDecipheriv("aes-128-gcm", derive("key", 16), derive("nonce", 12));
  opener.setAuthTag(rest.subarray(-TAG));
  const plain = Buffer.concat([opener.update(rest.subarray(0, -TAG)), opener.final()]);
  const answer = new BHttpDecoder().decodeResponse(new Uint8Array(plain));
  return { status: answer.status, type: answer.headers.get("content-type"), text: await answer.text() };
}

async function post(bytes) {
  const answer = await fetch(relay, { method: "POST", headers: { "content-type": "message/ohttp-req" }, body: bytes });
  return { status: answer.status, headers: answer.headers, body: Buffer.from(await answer.arrayBuffer()) };
}

async function message(path, body = payload) {
  const headers = { "content-type": "application/octet-stream" };
  const request = new Request(new URL(path, target), { method: "POST", headers, body });
  return Buffer.from(await new BHttpEncoder().encodeRequest(request));
}

/** The message with zeros behind it (RFC 9292 3.8), so that it has `size` bytes once it is sealed. */
function padded(plain, size) {
  return Buffer.concat([plain, Buffer.alloc(size - plain.length - 7 - ENC - TAG)]);
}

function same(what, found, expected) {
  if (found !== expected) throw new Error(`${what}: ${found}, and not ${expected}`);
}

function isTheTargets(answer, length = payload.length) {
  same("status", answer.status, 201);
  same("content", answer.text, `kept ${length} bytes`);
}

let config;
let plain;
const repeated = {};
const first = {
  "it takes our list of key configurations, as the relay shows it": async () => {
    const answer = await fetch(new URL(".well-known/ohttp-gateway", relay), { headers: { accept: "application/ohttp-keys" } });
    same("status", answer.status, 200);
    same("type", answer.headers.get("content-type"), "application/ohttp-keys");
    const list = configurations(Buffer.from(await answer.arrayBuffer()));
    same("configurations", list.length, 2);
    config = list.find(({ kem }) => kem === X25519);
    plain = await message("/kept");
  },
};

const usual = {
  "its answer opens, and is the target's": async () => {
    const request = await seal(config, plain);
    const answer = await post(request.bytes);
    same("status", answer.status, 200);
    same("type", answer.headers.get("content-type"), "message/ohttp-res");
    isTheTargets(await open(request, answer.body));
  },
  "padded with zeros to a shared size, it is taken alike": async () => {
    repeated.request = await seal(config, padded(plain, 2048));
    same("size", repeated.request.bytes.length, 2048);
    repeated.first = await post(repeated.request.bytes);
    isTheTargets(await open(repeated.request, repeated.first.body));
  },
  "the same bytes sent again are answered alike, under another nonce": async () => {
    const again = await post(repeated.request.bytes);
    isTheTargets(await open(repeated.request, again.body));
    same("size", again.body.length, repeated.first.body.length);
    if (again.body.equals(repeated.first.body)) throw new Error("the very same bytes came back");
  },
  "a key that the gateway never had is refused with `ohttp-key`": async () => {
    const answer = await post((await seal({ ...config, id: config.id ^ 0x80 }, plain)).bytes);
    same("status", answer.status, 400);
    same("problem", JSON.parse(answer.body).type, "https://iana.org/assignments/http-problem-types#ohttp-key");
  },
  "a target that is not in the table is refused inside the envelope, and looks the same from outside": async () => {
    const request = await seal(config, padded(await message("/elsewhere"), 2048));
    const answer = await post(request.bytes);
    same("status outside", answer.status, 200);
    same("size outside", answer.body.length, repeated.first.body.length);
    const names = (headers) => [...headers.keys()].filter((name) => name !== "date").sort().join(" ");
    same("fields outside", names(answer.headers), names(repeated.first.headers));
    const opened = await open(request, answer.body);
    same("status", opened.status, 404);
    same("type", opened.type, "application/problem+json");
  },
  "padding that is not of zeros is refused inside the envelope": async () => {
    const request = await seal(config, Buffer.concat([plain, Buffer.alloc(8), randomBytes(100).fill(1, 0, 1)]));
    same("status", (await open(request, (await post(request.bytes)).body)).status, 400);
  },
};

// The gateway insists on padding, and the relay lets requests wait for each other.
const strict = {
  "what is not padded is refused inside the envelope": async () => {
    const request = await seal(config, plain);
    same("status", (await open(request, (await post(request.bytes)).body)).status, 400);
  },
  "three that the relay mixes each get their own answer": async () => {
    const ask = async (length) => {
      const request = await seal(config, padded(await message("/kept", payload.subarray(0, length)), 2048));
      isTheTargets(await open(request, (await post(request.bytes)).body), length);
    };
    await Promise.all([100, 200, 300].map(ask));
  },
};

for (const [check, run] of Object.entries({ ...first, ...(manner === "strict" ? strict : usual) })) {
  let why = null;
  try {
    await run();
  } catch (error) {
    why = String(error.message ?? error);
    process.exitCode = 1;
  }
  console.log(JSON.stringify({ check, ok: why === null, why }));
}
