// Starts the two halves of the page: the chat, and the picture of the engine.
import { request, events } from "./http.js";
import { startChat } from "./chat.js";
import { startEngine } from "./engine.js";

const byId = (id) => document.getElementById(id);

async function names() {
  try {
    const status = await (await request("/status")).json();
    byId("model").textContent = status.model;
    startChat(status.model);
  } catch {
    setTimeout(names, 1000);
  }
}

names();
startEngine(events);
