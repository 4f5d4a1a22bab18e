"use strict";
// The map: the index's passages as points, drawn into one image a frame; hits lit up, and a document behind each point.
const canvas = byId("map-canvas"), plot = canvas.getContext("2d"), tip = byId("map-tip");
const WIDTH = 65535, GONE = 255, NEAR_PX = 12, TIP_MS = 120;
let chart = null;        // the map as it was loaded: {version, count, x, y, topics, names}
let lit = [];            // points of the hits on the page
let lighting = 0;        // looks for them: the last one counts
let pointed = -1;        // the point under the pointer
let looking = null;      // at the document behind it
let look = { x: 0.5, y: 0.5, zoom: 1 };
let frame = 0, image = null;

async function toggleMap() {
  const section = byId("map");
  section.hidden = !section.hidden;
  byId("map-button").setAttribute("aria-expanded", String(!section.hidden));
  if (section.hidden) return;
  if (!chart) await loadMap();
  await lightUp();
}

async function loadMap() {
  const about = await call("map");
  const data = await (await response(`map/points?version=${about.version}`)).arrayBuffer();
  const count = about.points;
  if (data.byteLength !== 5 * count) throw new Refusal(409);
  chart = {
    version: about.version, count, names: about.topics,
    x: new Uint16Array(data, 0, count), y: new Uint16Array(data, 2 * count, count), topics: new Uint8Array(data, 4 * count, count),
  };
  const topics = about.topics.map((topic) => topic.words.join(" ")).filter(Boolean);
  byId("map-note").textContent = say.mapOf(count, about.passages) + (about.stale ? ` ${say.mapStale(about.gone, about.new)}` : "");
  canvas.setAttribute("aria-label", say.mapLabel(count));
  byId("map-topics").replaceChildren(...topics.map((words) => button(words, "chip", () => { query.value = words; submit(); })));
  redraw();
}

// Which points the hits on the page are.
async function lightUp() {
  if (byId("map").hidden || !chart) return;
  const mine = ++lighting, passages = [...hits.children].map((item) => item.dataset.passage);
  lit = [];
  redraw();
  if (!passages.length) return;
  try {
    const { points } = await call("map/places", { version: chart.version, passage_ids: passages });
    if (mine !== lighting) return;
    lit = points.filter((point) => point !== null);
    redraw();
  } catch (error) {
    if (error.status !== 409 || mine !== lighting) return show(error);
    chart = null;  // made anew, or the index has changed: seen once more
    await loadMap().then(lightUp, show);
  }
}

const across = (x) => ((x / WIDTH - look.x) * look.zoom + 0.5) * canvas.width;
const down = (y) => ((y / WIDTH - look.y) * look.zoom + 0.5) * canvas.height;

function redraw() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; draw(); });
}

function draw() {
  const dense = devicePixelRatio || 1, width = Math.round(canvas.clientWidth * dense), height = Math.round(canvas.clientHeight * dense);
  if (!chart || !width || !height) return;
  if (canvas.width !== width || canvas.height !== height || !image) {
    Object.assign(canvas, { width, height });
    image = plot.createImageData(width, height);
  }
  drawPoints(new Uint32Array(image.data.buffer), width, height, dense);
  plot.putImageData(image, 0, 0);
  const style = getComputedStyle(document.body);
  for (const point of lit) ring(point, 6 * dense, style.getPropertyValue("--accent"), true);
  if (pointed >= 0) ring(pointed, 8 * dense, style.color, false);
  drawNames(dense, style);
}

function drawPoints(pixels, width, height, dense) {
  const { count, x, y, topics } = chart, colours = palette(lit.length ? 90 : 220);
  const size = Math.max(1, Math.round(dense * (count > 30000 ? 1 : count > 3000 ? 2 : 4) * Math.min(2, Math.sqrt(look.zoom))));
  const scaleX = look.zoom * width / WIDTH, scaleY = look.zoom * height / WIDTH;
  const left = (0.5 - look.x * look.zoom) * width - size / 2, top = (0.5 - look.y * look.zoom) * height - size / 2;
  pixels.fill(0);
  for (let point = 0; point < count; point++) {
    if (topics[point] === GONE) continue;
    const column = Math.round(x[point] * scaleX + left), row = Math.round(y[point] * scaleY + top);
    if (column < 0 || row < 0 || column + size > width || row + size > height) continue;
    const colour = colours[topics[point]];
    for (let line = row * width + column, last = line + size * width; line < last; line += width)
      for (let pixel = line; pixel < line + size; pixel++) pixels[pixel] = colour;
  }
}

// A colour for each topic, as pixels have them: neighbours in number are far apart in hue.
function palette(alpha) {
  const light = matchMedia("(prefers-color-scheme: dark)").matches ? 0.65 : 0.45;
  return chart.names.map((_, number) => {
    const hue = number * 137.5, part = (shift) => {
      const place = (shift + hue / 30) % 12;
      return Math.round(255 * (light - 0.55 * Math.min(light, 1 - light) * Math.max(-1, Math.min(place - 3, 9 - place, 1))));
    };
    return ((alpha << 24) | (part(4) << 16) | (part(8) << 8) | part(0)) >>> 0;
  });
}

function ring(point, radius, colour, filled) {
  plot.beginPath();
  plot.arc(across(chart.x[point]), down(chart.y[point]), radius, 0, 2 * Math.PI);
  plot.lineWidth = radius / 3;
  plot.strokeStyle = filled ? getComputedStyle(document.body).backgroundColor : colour;
  if (filled) { plot.fillStyle = colour; plot.fill(); }
  plot.stroke();
}

// The largest topics first, and none over another.
function drawNames(dense, style) {
  const taken = [], size = 12 * dense;
  Object.assign(plot, { font: `600 ${size}px ${style.fontFamily}`, textAlign: "center", textBaseline: "middle", lineWidth: 4 * dense, lineJoin: "round" });
  plot.strokeStyle = style.backgroundColor;
  plot.fillStyle = style.color;
  for (const { words, x, y } of chart.names) {
    const text = words.slice(0, 3).join(" · "), wide = plot.measureText(text).width / 2 + 4 * dense;
    const middle = Math.min(Math.max(across(x), wide), canvas.width - wide), line = down(y);
    if (across(x) < 0 || across(x) > canvas.width || line < size || line > canvas.height - size) continue;
    if (taken.some(([a, b, w]) => Math.abs(a - middle) < w + wide && Math.abs(b - line) < 1.4 * size)) continue;
    taken.push([middle, line, wide]);
    plot.strokeText(text, middle, line);
    plot.fillText(text, middle, line);
  }
}

// The point nearest to a place on the canvas, a hit before others; -1 where none is near.
function nearest(event) {
  if (!chart) return -1;
  const dense = canvas.width / canvas.clientWidth, { left, top } = canvas.getBoundingClientRect();
  const column = (event.clientX - left) * dense, row = (event.clientY - top) * dense;
  const distance = (point) => (across(chart.x[point]) - column) ** 2 + (down(chart.y[point]) - row) ** 2;
  let best = -1, least = (NEAR_PX * dense) ** 2;
  for (const point of lit) if (distance(point) < least) [best, least] = [point, distance(point)];
  if (best >= 0) return best;
  for (let point = 0; point < chart.count; point++) {
    const far = chart.topics[point] === GONE ? Infinity : distance(point);
    if (far < least) [best, least] = [point, far];
  }
  return best;
}

const behind = (point, signal) => call(`map/points/${point}?version=${chart.version}`, undefined, signal);

function point_(event) {
  const found = nearest(event);
  if (found === pointed) return;
  pointed = found;
  canvas.style.cursor = found < 0 ? "grab" : "pointer";
  looking?.abort();
  tip.hidden = true;
  redraw();
  if (found < 0) return;
  const mine = (looking = new AbortController());
  setTimeout(async () => {
    if (mine.signal.aborted) return;
    try {
      const { title, doc_id, text } = await behind(found, mine.signal);
      if (looking !== mine || pointed !== found) return;
      tip.replaceChildren(make("b", title || doc_id, "clamp"), make("span", text, "clamp"));
      tip.hidden = false;
    } catch { /* a look is no question: what is wrong shows on a click */ }
  }, TIP_MS);
}

function zoom(by, event) {
  const { left, top } = canvas.getBoundingClientRect();
  const toX = event ? (event.clientX - left) / canvas.clientWidth - 0.5 : 0, toY = event ? (event.clientY - top) / canvas.clientHeight - 0.5 : 0;
  const closer = Math.min(64, Math.max(1, look.zoom * by));
  look = { x: look.x + toX / look.zoom - toX / closer, y: look.y + toY / look.zoom - toY / closer, zoom: closer };
  if (closer === 1) Object.assign(look, { x: 0.5, y: 0.5 });
  redraw();
}

function pan(x, y) {
  const within = (value) => Math.min(1, Math.max(0, value));
  look = { ...look, x: within(look.x - x / look.zoom), y: within(look.y - y / look.zoom) };
  redraw();
}

let held = null;         // where the pointer went down, and whether it has moved since
canvas.addEventListener("pointerdown", (event) => {
  held = { x: event.clientX, y: event.clientY, moved: false };
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!held) return point_(event);
  const x = event.clientX - held.x, y = event.clientY - held.y;
  if (!held.moved && Math.hypot(x, y) < 4) return;
  held = { x: event.clientX, y: event.clientY, moved: true };
  pan(x / canvas.clientWidth, y / canvas.clientHeight);
});
canvas.addEventListener("pointerup", (event) => {
  const clicked = held && !held.moved ? nearest(event) : -1;
  held = null;
  if (clicked >= 0) behind(clicked).then((hit) => open_(hit)).catch(show);
});
canvas.addEventListener("pointercancel", () => { held = null; });
canvas.addEventListener("pointerleave", () => { pointed = -1; tip.hidden = true; looking?.abort(); redraw(); });
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(event.deltaY < 0 ? 1.25 : 0.8, event); }, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
  const by = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
  if (event.isComposing || (!step && !by)) return;
  event.preventDefault();
  event.stopPropagation();
  if (step) pan(...step); else zoom(by);
});
new ResizeObserver(redraw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
byId("map-button").addEventListener("click", () => toggleMap().catch(show));
byId("map-in").addEventListener("click", () => zoom(1.6));
byId("map-out").addEventListener("click", () => zoom(0.625));
