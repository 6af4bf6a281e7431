// Lets dap-ts (TypeScript, draft -19) play a role in tests/interop.rs; docs/interop.md has the command line.
//
//     node dap-ts.mjs PATH-OF-THE-MODULE client|collector|helper|leader SHEET ...
//
// dap-ts speaks no HTTP and stores nothing: both are done here, in memory, as simply as they can be. What is sealed,
// opened, verified and encoded is dap-ts alone.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const [path, role, sheetPath, ...rest] = process.argv.slice(2);
const dap = await import(pathToFileURL(path).href);
const sheet = JSON.parse(readFileSync(sheetPath, "utf8"));
const hex = (text) => new Uint8Array(Buffer.from(text, "hex"));
const task = dap.Task.decode({ id: sheet.task.id, configuration: hex(sheet.task.config) });
const media = (message) => `application/ppm-dap;message=${message}`;

const config = hex(sheet.collector.hpke_config);
const number = (at) => config[at] * 256 + config[at + 1];
const collector = {
  id: config[0],
  kemId: number(1),
  kdfId: number(3),
  aeadId: number(5),
  publicKey: config.slice(9),
};

async function published(endpoint) {
  const response = await fetch(`${endpoint}hpke_config`);
  if (!response.ok) throw new Error(`${endpoint}: ${response.status}`);
  return dap.HpkeConfigList.parse(new Uint8Array(await response.arrayBuffer()));
}

async function upload(measurements) {
  const hpke = { leader: await published(task.leader), helper: await published(task.helper) };
  const client = await dap.Client.create(task, { hpke });
  const reports = await client.prepareReports(measurements.map(Number));
  const prepared = client.prepareUpload(reports);
  const result = await prepared.process(await fetch(prepared.request));
  if (!result.ok) throw new Error(JSON.stringify(result.rejected));
}

async function collect(start, end) {
  const privateKey = hex(sheet.collector.private_key);
  const role = await dap.Collector.create(task, { configId: collector.id, privateKey });
  let step = role.prepare({ start: start * 1000, end: end * 1000 });
  for (;;) {
    const request = step.request;
    request.headers.set("authorization", `Bearer ${sheet.auth.collector_to_leader}`);
    const progress = await step.process(await fetch(request));
    if (progress.status === "complete") {
      const results = [progress.value].flat().map(Number);
      console.log(JSON.stringify({ report_count: progress.reportCount, results }));
      return;
    }
    await new Promise((resume) => setTimeout(resume, (progress.retryAfter ?? 1) * 1000));
    step = role.resume(progress.state);
  }
}

/** The reports committed so far, by the time of their bucket. */
class Buckets {
  #role;
  #buckets = new Map();
  #seen = new Set();
  constructor(role) {
    this.#role = role;
  }
  commit(reports) {
    const refused = [];
    for (const report of reports) {
      if (!report.outputShare) continue;
      if (this.#seen.has(report.id)) {
        refused.push({ id: report.id, error: "report-replayed" });
        continue;
      }
      this.#seen.add(report.id);
      this.#buckets.set(report.time, this.#role.addToBucket(this.#buckets.get(report.time), report));
    }
    return refused;
  }
  merged({ start, end }) {
    const inside = [...this.#buckets].filter(([time]) => time >= start && time < end);
    return this.#role.mergeBuckets(inside.map(([, bucket]) => bucket));
  }
}

async function options() {
  return {
    hpkeKeys: [{ configId: 77, privateKey: new Uint8Array(randomBytes(32)) }],
    verifyKeys: [{ id: sheet.task.verification_key_id, key: hex(sheet.task.verify_key) }],
    collector,
  };
}

/** Serves routes: [method, pattern, handler(body, match)] -> { location, type, body }. */
function serve(port, token, routes) {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = new Uint8Array(Buffer.concat(chunks));
    const url = new URL(request.url, "http://peer");
    console.error(`${request.method} ${request.url} (${body.length} bytes)`);
    const route = routes.find(([method, pattern]) => method === request.method && pattern.test(url.pathname));
    try {
      if (!route) return response.writeHead(404).end();
      const [, , handle, open] = route;
      if (!open && request.headers.authorization !== `Bearer ${token}`) return response.writeHead(403).end();
      const answer = await handle(body, url.pathname);
      const headers = {};
      if (answer.type) headers["content-type"] = answer.type;
      if (answer.location) headers.location = answer.location;
      if (answer.retryAfter) headers["retry-after"] = String(answer.retryAfter);
      response.writeHead(200, headers).end(answer.body);
    } catch (error) {
      console.error(error);
      const problem = dap.problemResponse(error, task.id);
      response.writeHead(problem.status, { "content-type": "application/problem+json" });
      response.end(await problem.text());
    }
  });
  server.listen(Number(port), "127.0.0.1");
}

const resources = (name) => new RegExp(`^/tasks/${task.id}/${name}$`);
const resource = (name) => new RegExp(`^/tasks/${task.id}/${name}/[A-Za-z0-9_-]+$`);
const idOf = (body) => createHash("sha256").update(body).digest().subarray(0, 16).toString("base64url");

async function helper(port) {
  const role = await dap.Helper.create(task, await options());
  const buckets = new Buckets(role);
  const answers = new Map();
  // Created by POST; the same bytes get the same resource and the same answer.
  const create = (name, type, make) => async (body) => {
    const location = `/tasks/${task.id}/${name}/${idOf(body)}`;
    if (!answers.has(location)) answers.set(location, { location, type, body: await make(body) });
    return answers.get(location);
  };
  const again = (_, path) => answers.get(path);
  const gone = (_, path) => (answers.delete(path), {});
  const aggregate = create("aggregation_jobs", media("aggregation-job-resp"), async (body) => {
    const job = await role.verify(body);
    return job.seal(buckets.commit(job.reports));
  });
  const share = create("aggregate_shares", media("aggregate-share"), (body) => {
    const asked = role.aggregateShare(body);
    return asked.finish(buckets.merged(asked.interval));
  });
  const keys = () => ({ type: media("hpke-config-list"), body: role.hpkeConfigs.encode() });
  serve(port, sheet.auth.leader_to_helper, [
    ["GET", /^\/hpke_config$/, keys, true],
    ["POST", resources("aggregation_jobs"), aggregate],
    ["POST", resources("aggregate_shares"), share],
    ["GET", resource("(aggregation_jobs|aggregate_shares)"), again],
    ["DELETE", resource("(aggregation_jobs|aggregate_shares)"), gone],
  ]);
}

async function leader(port) {
  const role = await dap.Leader.create(task, await options());
  const buckets = new Buckets(role);
  const waiting = new Map();
  const collections = new Map();

  async function ask(name, type, body) {
    const url = `${task.helper}tasks/${task.id}/${name}`;
    const authorization = `Bearer ${sheet.auth.leader_to_helper}`;
    const headers = { "content-type": media(type), authorization };
    let response = await fetch(url, { method: "POST", headers, body });
    const location = response.headers.get("location");
    console.error(`${response.status} from ${url}, at ${location}`);
    for (;;) {
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (!response.ok) throw new Error(`${response.status}: ${Buffer.from(bytes)}`);
      if (bytes.length) return bytes;
      const seconds = Number(response.headers.get("retry-after") ?? 1);
      await new Promise((resume) => setTimeout(resume, seconds * 1000));
      response = await fetch(new URL(location, url), { headers: { authorization } });
    }
  }

  async function aggregate() {
    if (!waiting.size) return;
    const job = await role.prepare([...waiting.values()]);
    waiting.clear();
    if (job.rejected.length) console.error("rejected here:", job.rejected);
    if (!job.request) return;
    const answer = await ask("aggregation_jobs", "aggregation-job-init-req", job.request);
    const reports = role.finish(job.state, answer);
    const refused = reports.filter(({ error }) => error);
    if (refused.length) console.error("rejected there:", refused);
    buckets.commit(reports);
  }

  async function release(body) {
    await aggregate();
    const collection = role.collection(body);
    const bucket = buckets.merged(collection.interval);
    const wanted = collection.aggregateShareRequest(bucket);
    return collection.finish(bucket, await ask("aggregate_shares", "aggregate-share-req", wanted));
  }

  const put = (body) => {
    const incoming = role.upload(body);
    for (const { id, report } of incoming.reports) waiting.set(id, report);
    return { type: media("upload-errors"), body: incoming.respond() };
  };
  // Deferred, so that the collector has to poll.
  const create = (body) => {
    const location = `/tasks/${task.id}/collection_jobs/${idOf(body)}`;
    if (!collections.has(location)) {
      const job = { location, retryAfter: 1 };
      collections.set(location, job);
      release(body).then(
        (done) => Object.assign(job, { type: media("collection-job-resp"), body: done, retryAfter: 0 }),
        (error) => Object.assign(job, { error }),
      );
    }
    return { location, retryAfter: 1 };
  };
  const poll = (_, path) => {
    const job = collections.get(path);
    if (job.error) throw job.error;
    return job;
  };
  const keys = () => ({ type: media("hpke-config-list"), body: role.hpkeConfigs.encode() });
  serve(port, sheet.auth.collector_to_leader, [
    ["GET", /^\/hpke_config$/, keys, true],
    ["POST", resources("reports"), put, true],
    ["POST", resources("collection_jobs"), create],
    ["GET", resource("collection_jobs"), poll],
    ["DELETE", resource("collection_jobs"), (_, path) => (collections.delete(path), {})],
  ]);
}

if (role === "client") await upload(rest);
else if (role === "collector") await collect(Number(rest[0]), Number(rest[1]));
else if (role === "helper") await helper(rest[0]);
else if (role === "leader") await leader(rest[0]);
else throw new Error(`no such role: ${role}`);
