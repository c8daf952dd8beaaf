// Requests with the API key, if the server wants one, and readers of server-sent events.
// EventSource cannot send a key, so events are read from fetch.

let asking = null;

function askKey() {
  asking ??= Promise.resolve().then(() => {
    const key = window.prompt("This server wants its API key:");
    asking = null;
    if (!key) throw new Error("no API key given");
    sessionStorage.setItem("key", key);
  });
  return asking;
}

export async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem("key");
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const response = await fetch(path, { ...options, headers });
    if (response.status === 401) {
      await askKey();
      continue;
    }
    if (!response.ok) {
      let message = `${response.status} ${response.statusText}`;
      try {
        message = (await response.json()).error.message;
      } catch {
        // not an answer of MILI's own
      }
      throw new Error(message);
    }
    return response;
  }
}

export function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", body: JSON.stringify(body), headers, signal });
}

// Yields {name, data} for each event of a response.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      held += value;
      const parts = held.split("\n\n");
      held = parts.pop();
      for (const part of parts) {
        let name = "message", data = "";
        for (const line of part.split("\n")) {
          if (line.startsWith("event: ")) name = line.slice(7);
          else if (line.startsWith("data: ")) data += line.slice(6);
        }
        if (data) yield { name, data };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
