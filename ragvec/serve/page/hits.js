"use strict";
// What was found: a hit with its strength and where it comes from, a document, and values to filter by.
const dialog = byId("document");
let opening = 0;         // documents that were asked for: the last one is shown

// Marks are counted in characters as Python counts them, so the text is cut by code points.
function marked(text, marks, tag, className) {
  const element = make(tag, undefined, className), characters = Array.from(text);
  let last = 0;
  for (const [start, end] of marks) {
    element.append(characters.slice(last, start).join(""), make("mark", characters.slice(start, end).join("")));
    last = end;
  }
  element.append(characters.slice(last).join(""));
  return element;
}

// best: the score that fills the bar; a fused score and a cosine fill it with 1
function card(hit, best) {
  const item = make("li", undefined, hit.weak ? "card weak" : "card");
  item.dataset.passage = hit.passage_id;
  const opened = button(undefined, "hit", () => open_(hit).catch(show));
  if (hit.title) opened.append(make("h2", hit.title, "clamp"));
  opened.append(marked(hit.highlight.text, hit.highlight.marks, "p"));
  item.append(opened, about(hit, best));
  return item;
}

function about(hit, best) {
  const line = make("div", undefined, "about"), bar = make("span", undefined, "bar"), filled = make("i");
  const share = Math.min(1, Math.max(0, hit.score / Math.max(best, 1e-9)));
  filled.style.width = `${100 * share}%`;
  bar.append(filled);
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", say.strength(Math.round(100 * share)));
  line.append(bar, make("span", hit.score.toFixed(3), "score"), make("span", hit.doc_id, "id"), ...parts(hit), ...place(hit.highlight));
  const { file, page, url } = hit.highlight;
  const facts = Object.entries(hit.metadata).filter(([, value]) => ![file, page, url].includes(value)).slice(0, 4);
  line.append(...facts.flatMap(([name, value]) => fact(name, value)));
  line.append(button(say.similar, "chip similar", () => similar(hit)));
  return line;
}

function parts(hit) {
  const said = [];
  if (hit.weak) said.push(say.weak);
  if (hit.similarity !== undefined) said.push(`${say.cosine} ${hit.similarity.toFixed(2)}`);
  if (hit.bm25 !== undefined) said.push(`BM25 ${hit.bm25.toFixed(1)}`);
  if (hit.dense_rank !== undefined) said.push(say.byMeaning(hit.dense_rank));
  if (hit.lexical_rank !== undefined) said.push(say.byWords(hit.lexical_rank));
  return said.map((text) => make("span", text));
}

// Where a document comes from. A file's name is text: the server opens no file for a page. A link leads to the web alone.
function place({ file, page, url }) {
  const said = [file, ...(page === undefined ? [] : [say.page(page)])].filter(Boolean).join(", ");
  return [...(said ? [make("span", said)] : []), ...link(url)];
}

function link(url) {
  if (!/^https?:\/\//i.test(url ?? "")) return [];
  const element = make("a", url.length > 60 ? `${url.slice(0, 60)}…` : url);
  Object.assign(element, { href: url, target: "_blank", rel: "noopener noreferrer" });
  return [element];
}

function fact(name, value) {
  const values = Array.isArray(value) ? value.slice(0, 4) : [value];
  return values.map((one) => canFilter(name, one)
    ? button(`${name} ${shown(one)}`, "chip", () => narrow(name, one))
    : make("span", `${name} ${shown(one)}`));
}

function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

// [{field, values: [{value, documents}]}] as buttons; one that is chosen narrows what is found
function facets(fields) {
  return fields.map(({ field, values }) => {
    const row = make("div");
    row.append(make("b", field), ...values.filter(({ value }) => canFilter(field, value)).map(({ value, documents }) => {
      const chip = button(`${shown(value)} `, "chip", () => narrow(field, value));
      if (documents !== null) chip.append(make("small", documents.toLocaleString(language)));
      return chip;
    }));
    return row;
  });
}

function canFilter(name, value) {
  return ["string", "boolean", "number"].includes(typeof value) && !/["'\\`]/.test(name);
}

// A comparison in the language of filters, whatever a name or a text holds.
function comparison(name, value) {
  const text = typeof value === "string" ? `"${value.replace(/["\\]/g, "\\$&")}"` : String(value);
  return `${/^[a-z_]\w*$/i.test(name) && !/^(and|or|not|in|like|is|null|true|false)$/i.test(name) ? name : `\`${name}\``} = ${text}`;
}

async function open_(hit, question = asked?.body.query ?? "") {
  const mine = ++opening;
  const found = await call(`documents/${encodeURIComponent(hit.doc_id)}?syntax=true&query=${encodeURIComponent(question)}`);
  if (mine !== opening) return;
  byId("document-title").textContent = found.title || found.doc_id;
  const facts = make("dl");
  for (const [name, value] of Object.entries({ id: found.doc_id, ...found.metadata }))
    facts.append(make("dt", name), make("dd", typeof value === "string" ? value : JSON.stringify(value)));
  const passages = found.passages.map((passage) => marked(passage.text, passage.marks ?? [], "div",
    passage.passage_id === hit.passage_id && found.passages.length > 1 ? "passage found" : "passage"));
  byId("document-body").replaceChildren(...link(found.url), facts, ...passages,
    button(say.similar, "chip similar", () => { dialog.close(); similar({ doc_id: found.doc_id, title: found.title }); }));
  show(null);
  if (!dialog.open) dialog.showModal();
  dialog.querySelector(".found")?.scrollIntoView({ block: "center" });
}
