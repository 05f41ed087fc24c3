// Asking the server: with the key of this tab, errors as the server words them, events as they come.

const KEY = "ragtune-key";
let onNoKey = () => {};

export const key = {
  get: () => sessionStorage.getItem(KEY) || "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Have this called when the server wants a key that there is not. */
export function whenNoKey(listener) {
  onNoKey = listener;
}

/** Fetch, with the key. Throws an Error with the server's message and its status. */
export async function request(path, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  const body = options.json !== undefined ? JSON.stringify(options.json) : options.body;
  let response;
  try {
    response = await fetch(path, { method: options.method || (body ? "POST" : "GET"), headers, body, signal: options.signal });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Error("The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  const error = new Error(answer.error?.message || answer.detail || `${response.status} ${response.statusText}`);
  error.status = response.status;
  if (response.status === 401) onNoKey(error.message);
  throw error;
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** Yield { event, data, id } of a stream of server-sent events; data is the parsed JSON, [DONE] ends it. */
export async function* events(path, options = {}) {
  const response = await request(path, { ...options, headers: { Accept: "text/event-stream", ...(options.headers || {}) } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((cause) => {
        throw cause.name === "AbortError" ? cause : new Error("The connection broke off. Is the server still running?");
      });
      if (done) return;
      held += value;
      const blocks = held.split(/\r?\n\r?\n/);
      held = blocks.pop();
      for (const block of blocks) {
        const found = { event: "message", data: [] };
        for (const line of block.split(/\r?\n/)) {
          if (line.startsWith("data:")) found.data.push(line.slice(5).replace(/^ /, ""));
          else if (line.startsWith("event:")) found.event = line.slice(6).trim();
          else if (line.startsWith("id:")) found.id = line.slice(3).trim();
        }
        if (!found.data.length) continue;
        const text = found.data.join("\n");
        if (text === "[DONE]") return;
        yield { ...found, data: JSON.parse(text) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Return the address of a file that needs the key, as a blob of this page. */
export async function blobUrl(path, options) {
  return URL.createObjectURL(await (await request(path, options)).blob());
}
