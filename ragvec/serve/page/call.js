"use strict";
// Talking to the server, and what its errors are called here: by their status and fields, never by their text.

class Refusal extends Error {
  constructor(status, { message = "", param, column } = {}, withKey = false) {
    super(message);
    Object.assign(this, { status, param, column, withKey });
  }
}

const BY_STATUS = {
  0: "lost", 400: "refused", 403: "forbidden", 404: "gone", 408: "late", 409: "busy", 413: "large", 422: "refused", 429: "busy",
  500: "failed", 503: "away",
};
const EXPLAINED = new Set(["refused", "forbidden", "large", "away"]);  // of which the server's own words say more

// [what went wrong, in the reader's language; the server's own words, where they say more]
function explain(error) {
  if (!(error instanceof Refusal)) return [say.failed, String(error.message)];
  if (error.status === 401) return [error.withKey ? say.wrongKey : say.locked, ""];
  if (error.status === 404 && error.param === "index") return [say.noIndex, ""];
  if (error.param === "where") return [say.filterWrong(error.column), error.message];
  const name = BY_STATUS[error.status];
  return name ? [say[name], EXPLAINED.has(name) ? error.message : ""] : [say.odd(error.status), error.message];
}

const isAbort = (error) => error?.name === "AbortError";

// A browser may keep no storage for a page: then nothing is remembered.
function stored(storage, name, value) {
  try {
    if (value === undefined) return window[storage].getItem(name);
    if (value === null) window[storage].removeItem(name); else window[storage].setItem(name, value);
  } catch { /* as if there were nothing */ }
  return null;
}

async function response(path, body, signal) {
  const key = stored("sessionStorage", "ragvec-key");
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    throw isAbort(error) ? error : new Refusal(0);
  }
  byId("unlock").hidden = answer.status !== 401;
  if (answer.ok) return answer;
  if (answer.status === 401) stored("sessionStorage", "ragvec-key", null);
  const said = await answer.json().catch(() => ({}));
  throw new Refusal(answer.status, said.error ?? { message: answer.statusText }, Boolean(key));
}

async function call(path, body, signal) {
  const answer = await response(path, body, signal);
  return answer.json().catch((error) => { throw isAbort(error) ? error : new Refusal(0); });
}

// The server-sent events of an answer, one after another: [name, value].
async function* events(path, body, signal) {
  const reader = (await response(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try { part = await reader.read(); } catch (error) { throw isAbort(error) ? error : new Refusal(0); }
    if (part.done) return;
    const blocks = (rest + part.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const [, name, data] = block.match(/^event: (\w+)\ndata: (.*)$/);
      yield [name, JSON.parse(data)];
    }
  }
}

function show(error) {
  if (isAbort(error)) return;
  const [text, detail] = error ? explain(error) : ["", ""];
  byId("problem-text").textContent = text;
  byId("problem-detail").textContent = detail;
  byId("problem").hidden = !error;
}
