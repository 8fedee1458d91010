// Fills one page's slots and prints the page plan as JSON; loads the contract as any other language would.
//
//   node client.js HOST:PORT [--as-of RFC3339] ARTICLE_ID
//   node client.js HOST:PORT [--as-of RFC3339] --draft FILE    FILE: a Draft as protobuf's JSON, in the contract's field names
//
// Exit code: 0 printed; 1 the service refused or does not answer, with "CODE: message" on standard error; 2 usage.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const protoLoader = require("@grpc/proto-loader");

const PROTOS = path.join(__dirname, "..", "..", "..", "protos");
const TIMEOUT_MS = 20_000;

function contract() {
  const files = path.join(PROTOS, "related_news", "v1", "related_news_service.proto");
  const definition = protoLoader.loadSync(files, {
    includeDirs: [PROTOS],
    keepCase: true,
    longs: String,
    enums: String,
  });
  return grpc.loadPackageDefinition(definition).related_news.v1;
}

function timestamp(text) {
  const ms = Date.parse(text);
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}

// JSON as protobuf defines it: a Timestamp is a string in RFC 3339.
function asJson(key, value) {
  const isTimestamp = value !== null && typeof value === "object" && "seconds" in value;
  return isTimestamp ? new Date(Number(value.seconds) * 1000 + (value.nanos ?? 0) / 1e6).toISOString() : value;
}

function draftFrom(file) {
  const draft = JSON.parse(fs.readFileSync(file, "utf-8"));
  return draft.published_at ? { ...draft, published_at: timestamp(draft.published_at) } : draft;
}

function requestFrom(values, articleId) {
  const page = values.draft ? { draft: draftFrom(values.draft) } : { article_id: articleId };
  return values["as-of"] ? { ...page, as_of: timestamp(values["as-of"]) } : page;
}

function main() {
  const options = { "as-of": { type: "string" }, draft: { type: "string" } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [address, articleId] = positionals;
  if (!address || Boolean(values.draft) === Boolean(articleId)) {
    console.error("usage: node client.js HOST:PORT [--as-of RFC3339] (ARTICLE_ID | --draft FILE)");
    process.exit(2);
  }
  const client = new (contract().RelatedNewsService)(address, grpc.credentials.createInsecure());
  const deadline = new Date(Date.now() + TIMEOUT_MS);
  client.FillSlots(requestFrom(values, articleId), { deadline }, (error, response) => {
    client.close();
    if (error) {
      console.error(`${grpc.status[error.code]}: ${error.details}`);
      process.exitCode = 1;
      return;
    }
    console.log(JSON.stringify(response.plan, asJson, 2));
  });
}

main();
