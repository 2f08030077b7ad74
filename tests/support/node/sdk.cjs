// npm's official openai SDK at work, as a caller's program would put it to work: the twin of tests/support/sdk.py. It reads a
// task from standard input and prints what came of it as one JSON line.
"use strict";

const fs = require("node:fs");
const OpenAI = require("openai");
const { VERSION } = require("openai/version");

const messages = [{ role: "user", content: "say something to me" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object" } } }];

async function calls(task) {
  const client = clientOf(task);
  return {
    version: VERSION,
    ...(await chats(client, task.model)),
    ...(await streams(client, task.model)),
    ...(await others(client, task.model, task.embedding_model)),
    errors: await errors(client, task),
    left_after: await leaves(client, task.left_id),
  };
}

function clientOf(task) {
  return new OpenAI({ baseURL: task.base_url, apiKey: task.api_key, maxRetries: 0, timeout: 30000 });
}

async function chats(client, model) {
  const create = (more) => client.chat.completions.create({ model, messages, ...more });
  const answer = await create();
  const tooled = await create({ model: `${model}+tools`, tools, tool_choice: "required" });
  const { response } = await create().withResponse();
  const called = tooled.choices[0].message.tool_calls[0].function;
  return {
    chat: answer.choices[0].message.content,
    usage: [answer.usage.prompt_tokens, answer.usage.completion_tokens],
    tool: [called.name, JSON.parse(called.arguments)],
    headers: { "x-request-id": response.headers.get("x-request-id"), server: response.headers.get("server") },
    request_id: answer._request_id,
  };
}

async function streams(client, model) {
  const create = (more) => all(client.chat.completions.create({ model, messages, stream: true, ...more }));
  const plain = await create();
  const asked = await create({ stream_options: { include_usage: true } });
  const tooled = await create({ model: `${model}+tools`, tools });
  const pieces = tooled.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? []);
  const helper = client.chat.completions.stream({ model: `${model}+tools`, messages, tools });
  const { usage } = asked.at(-1);
  return {
    stream: text(plain),
    stream_usage: plain.map((chunk) => chunk.usage).filter(Boolean),
    asked_usage: [usage.prompt_tokens, usage.completion_tokens],
    stream_tool: JSON.parse(pieces.map((piece) => piece.function.arguments ?? "").join("")),
    helper_tool: JSON.parse((await helper.finalMessage()).tool_calls[0].function.arguments),
  };
}

async function others(client, model, embeddingModel) {
  const vectors = await client.embeddings.create({ model: embeddingModel, input: ["a", "b"] });
  const legacy = { model, prompt: "say something to me" };
  const whole = await client.completions.create(legacy);
  const dripped = await all(client.completions.create({ ...legacy, stream: true }));
  return {
    embeddings: vectors.data.map((vector) => vector.embedding),
    legacy: whole.choices[0].text,
    legacy_stream: dripped.map((chunk) => chunk.choices[0]?.text ?? "").join(""),
    models: (await all(client.models.list())).map((found) => found.id).sort(),
    retrieved: (await client.models.retrieve(embeddingModel)).id,
  };
}

async function errors(client, task) {
  const create = (body) => client.chat.completions.create({ model: task.model, messages, ...body });
  const nobody = clientOf({ ...task, api_key: "gwk_nonsense" });
  return {
    key: await error(nobody.models.list()),
    model: await error(create({ model: "sdk-no-such-model" })),
    body: await error(create({ messages: [] })),
    busy: await error(create({ model: "oracle/status:429" })),
    broken: await error(create({ model: "oracle/close" })),
    cut: await error(all(create({ model: "oracle/cut:2", stream: true }))),
  };
}

/** The class of what was thrown, its status, code and parameter. */
async function error(promise) {
  try {
    await promise;
  } catch (thrown) {
    if (!(thrown instanceof OpenAI.APIError)) throw thrown;
    return [thrown.constructor.name, thrown.status ?? null, thrown.code ?? null, thrown.param ?? null];
  }
  return ["nothing was thrown"];
}

/** The number of chunks after which a stream was left. */
async function leaves(client, requestId) {
  const body = { model: "oracle/drip:500x0.01", messages, stream: true };
  let seen = 0;
  for await (const _ of await client.chat.completions.create(body, { headers: { "x-request-id": requestId } })) {
    seen += 1;
    if (seen === 2) break;
  }
  return seen;
}

async function all(pending) {
  const found = [];
  for await (const item of await pending) found.push(item);
  return found;
}

function text(chunks) {
  return chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");
}

calls(JSON.parse(fs.readFileSync(0, "utf8"))).then(
  (facts) => process.stdout.write(`${JSON.stringify(facts)}\n`),
  (thrown) => {
    console.error(thrown);
    process.exitCode = 1;
  },
);
