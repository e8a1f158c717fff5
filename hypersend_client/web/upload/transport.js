// Requests to the API, their failures as one kind of error, and where a chunk's bytes go.

const API = "/api/v1/files";
const STALLED_MS = 60000;

/** code: of the API's problem document, or `network`. `retryable`: the same request may succeed later. */
export class Problem extends Error {
  constructor(code, { status = 0, retryable = false, retryAfterS = 0, extra = {} } = {}) {
    super(code);
    Object.assign(this, { code, status, retryable, retryAfterS, extra });
  }
}

function problemOf(status, text, retryAfter) {
  let extra = {};
  try { extra = JSON.parse(text); } catch { /* a proxy's own page */ }
  const retryable = extra.retryable ?? (status >= 500 || status === 429 || status === 408 || status === 0);
  return new Problem(extra.code ?? (status ? `http_${status}` : "network"),
    { status, retryable, retryAfterS: Number(retryAfter) || 0, extra });
}

export class Api {
  constructor(ticket) { this.ticket = ticket; }

  async call(method, path, { json, headers = {}, signal } = {}) {
    let response, text;
    try {
      response = await fetch(API + path, {
        method, signal, cache: "no-store", credentials: "omit",
        headers: { Authorization: `Bearer ${this.ticket}`, ...(json && { "Content-Type": "application/json" }), ...headers },
        body: json && JSON.stringify(json),
      });
      text = await response.text();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem("network", { retryable: true });
    }
    if (!response.ok) throw problemOf(response.status, text, response.headers.get("Retry-After"));
    return text ? JSON.parse(text) : null;
  }
}

/**
 * Chunks to the server itself. Parts that go straight to an object store would be a second class with this `put`.
 * XMLHttpRequest, since fetch says nothing about how much of a body has gone: a chunk may take minutes.
 */
export class ServerChunks {
  constructor(api, id) { Object.assign(this, { api, id }); }

  /** Answers the receipt. progress(bytes) is called with what has gone of this body. */
  put(index, offset, body, digest, { signal, progress }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      let timer;
      const alive = () => { clearTimeout(timer); timer = setTimeout(() => request.abort(), STALLED_MS); };
      const stop = () => request.abort();
      const ended = (outcome, value) => { clearTimeout(timer); signal.removeEventListener("abort", stop); outcome(value); };
      request.open("PUT", `${API}/${this.id}/chunk?index=${index}${offset ? `&offset=${offset}` : ""}`);
      request.setRequestHeader("Authorization", `Bearer ${this.api.ticket}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.setRequestHeader("Repr-Digest", `sha-256=:${btoa(String.fromCharCode(...digest))}:`);
      request.upload.onprogress = (event) => { alive(); progress(event.loaded); };
      request.onload = () => (request.status >= 200 && request.status < 300
        ? ended(resolve, JSON.parse(request.responseText))
        : ended(reject, problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"))));
      request.onerror = () => ended(reject, new Problem("network", { retryable: true }));
      request.onabort = () => ended(reject, signal.aborted ? signal.reason : new Problem("network", { retryable: true }));
      signal.addEventListener("abort", stop);
      alive();
      request.send(body);
    });
  }
}
