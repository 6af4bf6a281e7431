// Stands between a party of draft -18 and one that speaks its labels but still has the resources and the framing of the
// drafts before (Janus at 4ab28a36): PUT with an identifier chosen by whoever creates, a partial batch selector instead
// of extensions in an aggregation job, and a length in front of the list of reports. What is sealed or verified passes as
// it is; nothing here holds a key.
//
//     node older-framing.mjs PORT [TARGET]
//
// With TARGET, everything goes there. Without, it is an HTTP proxy, so that the other side's address stays what the
// task says.
import { createHash } from "node:crypto";
import { createServer, request as ask } from "node:http";

const [port, base] = process.argv.slice(2);
const RESOURCE = /^(.*\/tasks\/[^/]+\/(aggregation_jobs|aggregate_shares|collection_jobs))(?:\/([^/]+))?$/;
const HOPS = ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "host", "content-length"];
const TIME_INTERVAL = Buffer.from([1, 0, 0]);

/** What the older side calls a resource -> what the newer side calls it. */
const newNames = new Map();
/** Resources that the newer side created on the older one. */
const made = new Set();

const length = (bytes) => {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(bytes.length);
  return Buffer.concat([prefix, bytes]);
};

/** key id, parameter, extensions, reports -> key id, parameter, batch selector, length, reports */
function olderJob(body) {
  const parameterEnd = 5 + body.readUInt32BE(1);
  const extensionsEnd = parameterEnd + 2 + body.readUInt16BE(parameterEnd);
  // The only extension there is, is the batch of a leader-selected task.
  const batch = body.subarray(parameterEnd + 6, extensionsEnd);
  const selector = batch.length ? Buffer.concat([Buffer.from([2, 0, batch.length]), batch]) : TIME_INTERVAL;
  return Buffer.concat([body.subarray(0, parameterEnd), selector, length(body.subarray(extensionsEnd))]);
}

/** The other way round. */
function newerJob(body) {
  const parameterEnd = 5 + body.readUInt32BE(1);
  const selectorEnd = parameterEnd + 3 + body.readUInt16BE(parameterEnd + 1);
  const batch = body.subarray(parameterEnd + 3, selectorEnd);
  const extension = batch.length ? Buffer.concat([Buffer.from([0, 1, 0, batch.length]), batch]) : Buffer.alloc(0);
  const extensions = Buffer.concat([Buffer.from([0, extension.length]), extension]);
  return Buffer.concat([body.subarray(0, parameterEnd), extensions, body.subarray(selectorEnd + 4)]);
}

const read = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
};

function send(target, method, headers, body) {
  return new Promise((resolve, reject) => {
    const onward = ask(target, { method, headers: { ...headers, "content-length": body.length } }, resolve);
    onward.on("error", reject);
    onward.end(body);
  });
}

const plain = (headers) => Object.fromEntries(Object.entries(headers).filter(([name]) => !HOPS.includes(name)));

createServer(async (request, response) => {
  if (!URL.canParse(request.url, base)) return response.writeHead(400).end("not a request for a proxy\n");
  const asked = new URL(request.url, base);
  let [method, path, body] = [request.method, asked.pathname, await read(request)];
  const [, all, kind, id] = path.match(RESOURCE) ?? [];
  const fromOlder = method === "PUT" && id;
  const fromNewer = method === "POST" && kind && !id;
  const isJob = kind === "aggregation_jobs";
  if (fromOlder) {
    [method, path, body] = ["POST", all, isJob ? newerJob(body) : body];
  } else if (fromNewer) {
    const name = createHash("sha256").update(body).digest().subarray(0, 16).toString("base64url");
    [method, path, body] = ["PUT", `${all}/${name}`, isJob ? olderJob(body) : body];
    made.add(path);
  } else {
    path = newNames.get(path) ?? path;
  }
  try {
    const target = new URL(path + asked.search, base ?? asked);
    const answer = await send(target, method, plain(request.headers), body);
    let content = await read(answer);
    const good = answer.statusCode >= 200 && answer.statusCode < 300;
    console.error(`${request.method} ${asked.pathname}${asked.search} -> ${method} ${path}: ${answer.statusCode}`);
    if (!good) console.error(content.toString());
    if (good && fromOlder) newNames.set(asked.pathname, new URL(answer.headers.location, target).pathname);
    if (good && isJob && content.length) {
      content = made.has(path) ? content.subarray(4) : length(content);
    }
    const fields = plain(answer.headers);
    // A job that is not ready says which step to ask for; one that is need not say where it is.
    if (good && fromNewer) fields.location = path + new URL(fields.location ?? "", target).search;
    // The older side takes 201 for what it created, and nothing else.
    response.writeHead(good && fromOlder ? 201 : answer.statusCode, fields).end(content);
  } catch (error) {
    response.writeHead(502).end(String(error));
  }
}).listen(Number(port), "127.0.0.1");
