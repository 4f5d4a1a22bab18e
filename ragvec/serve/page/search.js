"use strict";
// Asking: by the form, by the address, by what was asked before; one request at a time, and no hits but its own.
const PAGE = 10, REMEMBERED = 8, SLOW_MS = 300;
const [form, query, where, grouped, hits, status_, more, unlock] =
  ["form", "query", "where", "grouped", "hits", "status", "more", "unlock"].map(byId);
const HISTORY = `ragvec-asked ${location.pathname}`;
let running = null;      // the request under way
let asked = null;        // what the hits on the page answer: {path, body, title}
let modes = [];          // how this server searches, the default first

query.placeholder = say.ask;
query.setAttribute("aria-label", say.ask);
byId("modes").setAttribute("aria-label", say.modes);
byId("key").setAttribute("aria-label", say.key);

function filter() {
  return where.value.trim() && { where: where.value.trim() };
}

function wanted() {
  const body = {
    query: query.value.trim(), syntax: true, mode: form.elements.mode.value, highlight: true, ...filter(),
    ...(grouped.checked && { group_by: "doc_id" }),
  };
  return { path: "search", body, title: body.query };
}

function wantedLike({ doc_id, passage_id, title }) {
  const body = { doc_id, ...(passage_id && { passage_id }), highlight: true, ...filter() };
  return { path: "similar", body, title: title || doc_id };
}

async function find(request, offset = 0) {
  running?.abort();
  const mine = (running = new AbortController());
  document.body.classList.add("asked");
  byId("empty").hidden = true;
  if (!offset) clear();
  show(null);
  const slow = setTimeout(() => { byId("wait").hidden = false; }, SLOW_MS);
  const paged = request.path === "search" ? { k: PAGE + 1, offset, facets: !offset } : { k: PAGE };
  const started = performance.now();
  try {
    const answer = await call(request.path, { ...request.body, ...paged }, mine.signal);
    if (running !== mine) return;
    fill(request, answer, offset, performance.now() - started);
  } catch (error) {
    if (running === mine && !isAbort(error)) { clear(); show(error); }
  } finally {
    clearTimeout(slow);
    if (running === mine) byId("wait").hidden = true;
  }
}

function clear() {
  asked = null;
  hits.replaceChildren();
  byId("facets").replaceChildren();
  more.hidden = byId("verdict").hidden = true;
  lightUp().catch(show);
  status_.textContent = "";
}

function fill(request, answer, offset, ms) {
  asked = request;
  const found = answer.hits.slice(0, PAGE), server = Math.min(ms, 1000 * answer.seconds.all);
  const best = Math.max(1, request.body.mode === "lexical" ? answer.hits[0]?.score ?? 0 : 0, offset ? Number(hits.dataset.best) : 0);
  hits.dataset.best = best;
  hits.append(...found.map((hit) => card(hit, best)));
  more.hidden = answer.hits.length <= PAGE;
  lightUp().catch(show);
  status_.textContent = hits.children.length
    ? say.hits(hits.children.length, !more.hidden, Math.round(server), Math.round(ms - server))
    : request.body.where ? say.noneFiltered : say.none;
  if (request.path === "similar") status_.textContent = `${say.like(request.title)} · ${status_.textContent}`;
  if (!offset) {
    byId("verdict").hidden = !found.length || !found.every((hit) => hit.weak);
    byId("verdict").textContent = say.noGood;
    byId("facets").replaceChildren(...facets(answer.facets ?? []));
  }
  if (offset) hits.children[offset]?.firstChild.focus();
}

function submit() {
  if (!query.value.trim()) return query.focus();
  endAnswer();
  const request = wanted();
  remember(request);
  find(request);
}

function similar(hit) {
  endAnswer();
  query.value = "";
  const request = wantedLike(hit);
  remember(request);
  find(request);
  scrollTo({ top: 0 });
}

// Only what has this value, in the search that is on the page or in the next one.
function narrow(name, value) {
  const one = comparison(name, value), before = where.value.trim();
  if (!before.includes(one)) where.value = before ? `${/\bor\b/i.test(before) ? `(${before})` : before} and ${one}` : one;
  if (asked) again(); else query.focus();
}

function again() {
  if (asked?.path !== "similar") return submit();
  similar({ ...asked.body, title: asked.title });
}

function remember(request) {
  const address = new URLSearchParams(), { body } = request;
  if (request.path === "similar") {
    address.set("like", body.doc_id);
    if (body.passage_id) address.set("passage", body.passage_id);
  } else {
    address.set("q", body.query);
    if (body.mode !== modes[0]) address.set("mode", body.mode);
    if (body.group_by) address.set("by", "document");
    stored("localStorage", HISTORY, JSON.stringify([body.query, ...past().filter((one) => one !== body.query)].slice(0, REMEMBERED)));
  }
  if (body.where) address.set("where", body.where);
  if (`?${address}` !== location.search) history.pushState(null, "", `?${address}`);
  document.title = `${request.title} · ragvec`;
}

function past() {
  let kept;
  try { kept = JSON.parse(stored("localStorage", HISTORY) ?? "[]"); } catch { kept = []; }
  return Array.isArray(kept) ? kept.filter((one) => typeof one === "string").slice(0, REMEMBERED) : [];
}

function recall() {
  const address = new URLSearchParams(location.search);
  query.value = address.get("q") ?? "";
  where.value = address.get("where") ?? "";
  grouped.checked = address.has("by");
  form.elements.mode.value = modes.includes(address.get("mode")) ? address.get("mode") : modes[0];
  if (query.value.trim()) return find(wanted());
  if (address.get("like")) return find(wantedLike({ doc_id: address.get("like"), passage_id: address.get("passage") ?? undefined }));
  running?.abort();
  clear();
  document.body.classList.remove("asked");
  showEmpty().catch(show);
}

// What there is, and what to ask, before anything is asked.
async function showEmpty() {
  const mine = (running = new AbortController());
  const { examples, fields } = await call("overview", undefined, mine.signal);
  if (running !== mine) return;
  const asking = (text) => button(text, "chip", () => { query.value = text; submit(); });
  const rows = {
    examples: examples.map(asking), holds: facets(fields),
    past: past().map(asking).concat(past().length ? [button(say.forget, "chip", () => { stored("localStorage", HISTORY, null); showEmpty().catch(show); })] : []),
  };
  for (const [id, elements] of Object.entries(rows)) {
    byId(id).replaceChildren(...elements);
    byId(id).hidden = byId(id).previousElementSibling.hidden = !elements.length;
  }
  byId("empty").hidden = false;
}

form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
form.addEventListener("change", (event) => { if (asked && event.target !== query) again(); });
byId("answer").addEventListener("click", ask);
more.addEventListener("click", () => find(asked, hits.children.length));
byId("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
addEventListener("popstate", () => { endAnswer(); recall(); });
unlock.addEventListener("submit", (event) => {
  event.preventDefault();
  stored("sessionStorage", "ragvec-key", byId("key").value);
  byId("key").value = "";
  show(null);
  start();
});
addEventListener("keydown", (event) => {
  // while Hangul or kanji is being composed, its keys are the input method's
  if (event.isComposing || event.keyCode === 229 || dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=radio]):not([type=checkbox])");
  if (event.key === "/" && !typing) { event.preventDefault(); query.select(); query.focus(); return; }
  if (event.key === "Escape" && hits.contains(document.activeElement)) { query.focus(); return; }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.target.type === "radio" || (typing && event.target !== query)) return;
  const cards = [...hits.querySelectorAll(".hit")], place = cards.indexOf(document.activeElement) + step;
  if (place < -1 || !cards.length) return;
  event.preventDefault();
  (cards[Math.min(place, cards.length - 1)] ?? query).focus();
});

async function start() {
  try {
    const info = await call("info");
    if (!info.index) throw new Refusal(404, { param: "index" });
    byId("answer").hidden = !info.asks;
    byId("map-button").hidden = !info.map;
    document.body.classList.toggle("none-similar", !info.similar);
    modes = info.modes;
    for (const radio of form.elements.mode) radio.parentElement.hidden = !modes.includes(radio.value);
    byId("modes").hidden = modes.length < 2;
    byId("index").textContent = say.index(info.index.name, info.index.documents);
    const fields = info.index.fields;
    where.placeholder = fields.includes("year") ? "year >= 2020" : fields.length ? `${fields.at(-1)} = "…"` : "";
    where.title = fields.join(", ");
    where.parentElement.hidden = !fields.length;
    recall();
  } catch (error) { show(error); }
}
start();
