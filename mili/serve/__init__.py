"""HTTP: OpenAI's completions and chat, a native endpoint, health, metrics, and the page that shows the engine."""
