"use strict";
// The box in which a language model answers.
const reply = byId("reply");
let answering = null;    // the answer that is being written

reply.setAttribute("aria-label", say.reply);

function endAnswer() {
  answering?.abort();
  answering = null;
  reply.hidden = true;
}

async function ask() {
  if (!query.value.trim()) return query.focus();
  submit();
  const { query: question, mode, where } = wanted().body, mine = (answering = new AbortController());
  let text = "", sources = [], ended = false;
  byId("cited").replaceChildren();
  byId("reply-text").replaceChildren();
  byId("reply-about").textContent = say.reading;
  reply.hidden = false;
  reply.setAttribute("aria-busy", "true");
  try {
    for await (const [name, value] of events("ask", { question, mode, ...(where && { where }) }, mine.signal)) {
      if (answering !== mine) return;
      if (name === "sources") sources = value.sources;
      if (name === "token") byId("reply-text").replaceChildren(...withSources((text += value.text), sources, question));
      if (name === "error") throw new Refusal(value.error.code, value.error);
      if (name !== "done") continue;
      ended = true;
      byId("cited").replaceChildren(...value.cited.map((number) => sourceLine(sources[number - 1], question)));
      byId("reply-about").textContent = !sources.length ? "" : [value.cited.length ? say.made : say.uncited, ...(value.cut ? [say.cut] : [])].join(" ");
    }
    if (!ended) throw new Refusal(0);
  } catch (error) {
    if (answering === mine && !isAbort(error)) byId("reply-about").textContent = explain(error).filter(Boolean).join(" ");
  } finally {
    if (answering === mine) reply.removeAttribute("aria-busy");
  }
}

// An answer's text, each [n] of a source a button that opens it; whatever else it holds is text.
function withSources(text, sources, question) {
  return text.split(/(\[\d{1,4}(?:\s*[,;]\s*\d{1,4})*\])/).flatMap((part, place) =>
    place % 2 ? part.match(/\d+/g).map((number) => (sources[number - 1] ? cite(sources[number - 1], question) : `[${number}]`)) : [part]);
}

function cite(source, question) {
  const element = button(`[${source.number}]`, "cite", () => open_(source, question).catch(show));
  element.title = source.title || source.doc_id;
  return element;
}

function sourceLine(source, question) {
  const item = make("li");
  item.append(cite(source, question), " ", source.title ? `${source.title} (${source.doc_id})` : source.doc_id);
  for (const element of place(source)) item.append(" · ", element);
  return item;
}
