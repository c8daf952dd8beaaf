// The chat: one conversation, streamed; and five requests at once, to give the engine something to batch.
import { post, events } from "./http.js";

const byId = (id) => document.getElementById(id);
const log = byId("log"), text = byId("text"), send = byId("send");
// A browser opens six connections to a server; one of them reads the events.
const ENDINGS = ["a cat", "the sea", "a lost key", "snow", "two friends"];

let model = "", messages = [], running = null;

function element(tag, className, parent, content = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = content;
  parent.append(node);
  return node;
}

function settings() {
  return { model, temperature: Number(byId("temperature").value), max_tokens: Number(byId("max").value) };
}

function follow(change) {
  const below = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (below) log.scrollTop = log.scrollHeight;
}

// Streams one answer into `turn`; returns its text.
async function answer(turn, path, body, signal) {
  const start = performance.now();
  const body_ = { ...body, ...settings(), stream: true, stream_options: { include_usage: true } };
  const shown = document.createTextNode("");
  let thoughts = null, first = 0, usage = null, reason = "";
  turn.append(shown);
  for await (const { data } of events(await post(path, body_, signal))) {
    if (data === "[DONE]") break;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message);
    usage = chunk.usage ?? usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    const piece = choice.text ?? choice.delta.content ?? "", thought = choice.delta?.reasoning_content;
    reason = choice.finish_reason ?? reason;
    if ((piece || thought) && !first) first = performance.now() - start;
    follow(() => {
      if (thought) {
        if (!thoughts) {
          const details = document.createElement("details");
          details.open = true;
          element("summary", "", details, "reasoning");
          thoughts = details.appendChild(document.createTextNode(""));
          turn.insertBefore(details, shown);
        }
        thoughts.data += thought;
      }
      shown.data += piece;
    });
  }
  const seconds = (performance.now() - start - first) / 1000;
  if (usage) {
    const cached = usage.prompt_tokens_details.cached_tokens;
    const speed = seconds > 0 ? ((usage.completion_tokens - 1) / seconds).toFixed(1) : "-";
    follow(() => element("span", "note", turn,
      `${usage.completion_tokens} tokens, ${speed}/s, first after ${(first / 1000).toFixed(2)} s, ` +
      `${cached} of ${usage.prompt_tokens} prompt tokens from the cache${reason === "length" ? ", cut at max tokens" : ""}`));
  }
  return shown.data;
}

function failed(turn, error) {
  if (error.name === "AbortError") element("span", "note", turn, "stopped");
  else follow(() => element("p", "turn error", log, error.message));
}

async function guarded(work) {
  running = new AbortController();
  send.textContent = "Stop";
  byId("many").disabled = true;
  try {
    await work(running.signal);
  } finally {
    running = null;
    send.textContent = "Send";
    byId("many").disabled = false;
  }
}

async function say(content, signal) {
  const chatting = byId("mode").value === "chat";
  log.querySelector(".hint")?.remove();
  follow(() => element("div", "turn user", log, content));
  const turn = element("div", "turn", log);
  try {
    if (!chatting) {
      await answer(turn, "/v1/completions", { prompt: content }, signal);
      return;
    }
    const asked = [...messages, { role: "user", content }];
    const said = await answer(turn, "/v1/chat/completions", { messages: asked }, signal);
    messages = [...asked, { role: "assistant", content: said }];
  } catch (error) {
    failed(turn, error);
  }
}

async function sayMany(content, signal) {
  log.querySelector(".hint")?.remove();
  follow(() => element("div", "turn user", log, `${content} (five times, each about something else)`));
  const grid = element("div", "many", log);
  const chatting = byId("mode").value === "chat";
  await Promise.all(ENDINGS.map(async (ending) => {
    const turn = element("div", "turn", grid, "");
    const prompt = `${content} ${ending}`;
    const body = chatting ? { messages: [...messages, { role: "user", content: prompt }] } : { prompt };
    try {
      await answer(turn, chatting ? "/v1/chat/completions" : "/v1/completions", body, signal);
    } catch (error) {
      failed(turn, error);
    }
  }));
}

export function startChat(name) {
  model = name;
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (running) return running.abort();
    const content = text.value.trim();
    if (!content) return;
    text.value = "";
    guarded((signal) => say(content, signal));
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (!running) byId("form").requestSubmit();
    }
  });
  byId("many").addEventListener("click", () => {
    const content = text.value.trim() || "Tell me a short story about";
    text.value = "";
    guarded((signal) => sayMany(content, signal));
  });
  byId("clear").addEventListener("click", () => {
    running?.abort();
    messages = [];
    log.replaceChildren();
  });
  text.focus();
}
