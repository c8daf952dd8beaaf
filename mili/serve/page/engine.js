// The engine at work: reads /events while the page is visible and draws what has changed.
import { request } from "./http.js";
import { colour, drawPages, drawSpeed, drawSteps, drawTree } from "./draw.js";

const byId = (id) => document.getElementById(id);
const KEPT = 240; // steps in the charts
const WINDOW = 2; // seconds over which the rate is averaged

const view = {
  steps: [], // {prefill, decode}
  speed: [], // {time, tokens}
  rates: [], // tokens per second, sampled
  picture: null,
  evicted: 0, // pages evicted since the page was opened
  flash: 0,
};
let dirty = new Set(), asked = 0, cachedTokens = 0, promptTokens = 0, firstEvicted = null;

function redraw(...parts) {
  parts.forEach((part) => dirty.add(part));
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    const now = dirty;
    dirty = new Set();
    if (now.has("steps")) drawSteps(byId("steps"), view.steps, KEPT);
    if (now.has("speed")) drawSpeed(byId("speed"), view.rates, KEPT);
    if (now.has("pages") && view.picture) drawPages(byId("pages"), view.picture);
    if (now.has("tree") && view.picture) drawTree(byId("tree"), view.picture.tree.shown);
  });
}

function figures(event) {
  const pages = event.pages;
  byId("running").textContent = event.running.length ?? event.running;
  byId("waiting").textContent = event.waiting.length ?? event.waiting;
  const held = pages.total - pages.free - pages.evictable;
  byId("used").textContent = `${Math.round(100 * held / pages.total)}%`;
  byId("pagenote").textContent =
    `${pages.total} pages: ${held} held by requests, ${pages.evictable} kept for later, ${pages.free} free`;
  firstEvicted ??= event.evicted_pages;
  byId("treenote").textContent = view.picture
    ? `${view.picture.tree.nodes} nodes, ${pages.cached} pages, ${event.evicted_pages} evicted` +
      (event.preemptions ? `, ${event.preemptions} preemptions` : "") + ". Blue: in use now; longer: more pages; stronger: more hits"
    : "";
}

function onStep(event) {
  view.steps.push({ prefill: event.prefill_tokens, decode: event.decode_tokens, steps: event.steps });
  view.speed.push({ time: event.time, tokens: event.generated_tokens });
  for (const [, prompt, cached] of event.admitted) {
    promptTokens += prompt;
    cachedTokens += cached;
  }
  if (promptTokens) byId("hits").textContent = `${Math.round(100 * cachedTokens / promptTokens)}%`;
  if (view.steps.length > KEPT) view.steps.shift();
  figures(event);
  redraw("steps");
}

function onPicture(picture) {
  view.picture = picture;
  figures(picture);
  const list = byId("requests");
  list.replaceChildren(...picture.running.slice(0, 24).map(([id, slot, prompt, output, , cached]) => {
    const item = document.createElement("li"), chip = document.createElement("i");
    chip.style.background = colour(slot);
    item.append(chip, `${id.split("-").pop().slice(0, 6)}: ${prompt} prompt${cached ? ` (${cached} cached)` : ""} + ${output}`);
    return item;
  }));
  redraw("pages", "tree");
}

function tick() {
  const now = Date.now() / 1000;
  while (view.speed.length && view.speed[0].time < now - WINDOW) view.speed.shift();
  const tokens = view.speed.reduce((sum, entry) => sum + entry.tokens, 0);
  const rate = tokens / WINDOW;
  if (rate || view.rates.at(-1)) {
    view.rates.push(rate);
    if (view.rates.length > KEPT) view.rates.shift();
    byId("ratenote").textContent = `highest ${Math.max(...view.rates).toFixed(0)}, mean of ${WINDOW} s`;
    redraw("speed");
  }
  byId("rate").textContent = rate.toFixed(rate < 100 ? 1 : 0);
}

function state(name) {
  byId("state").textContent = name;
  byId("state").className = `chip state ${name}`;
}

async function follow(events, signal) {
  const response = await request("/events", { signal });
  for await (const { name, data } of events(response)) {
    const value = JSON.parse(data);
    if (name === "step") onStep(value);
    else if (name === "picture") onPicture(value);
    state(name === "waiting" ? value.status : "ready");
  }
}

export function startEngine(events) {
  let stop = null;
  const run = async () => {
    while (!document.hidden) {
      stop = new AbortController();
      try {
        await follow(events, stop.signal);
      } catch (error) {
        if (error.name !== "AbortError") state("no connection");
      }
      if (document.hidden) return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stop?.abort() : run()));
  window.addEventListener("resize", () => redraw("steps", "speed", "pages", "tree"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw("steps", "speed", "pages", "tree"));
  setInterval(tick, 250);
  redraw("steps", "speed");
  run();
}
