// Requests to the API, their failures as one kind of error, and where a chunk's bytes go.

import { hex } from "./digest.js";

const API = "/api/v1/files";
const CALL_MS = 4000;
const SILENT_MS = 6000;
const ANSWER_MS = 15000;  // all has gone, and a store may be slow to say that it is there
const LONGEST_MS = 60000;
const DIRECT_TRIES = 2;
const DIRECT_FAILURES = 3;
const MAX_PARTS = 200;

/**
 * code: of the API's problem document, or `network`. `retryable`: the same request may succeed later. `isSilence`: it was
 * given up since nothing moved; `hadGone`: when all of it had gone, and only the answer was missing.
 */
export class Problem extends Error {
  constructor(code, { status = 0, retryable = false, retryAfterS = 0, extra = {}, isSilence = false, hadGone = false } = {}) {
    super(code);
    Object.assign(this, { code, status, retryable, retryAfterS, extra, isSilence, hadGone });
  }
}

/**
 * How long silence is waited out. A line that died unheard is told to no page, and one that is slow must not be cut off
 * again and again: so it begins short, and doubles while giving up brought nothing.
 */
class Patience {
  constructor(first) { Object.assign(this, { first, doublings: 0, doubledAt: 0 }); }
  /** Lanes that lost the same line give up one after the other: that is one trouble. */
  more() {
    const now = performance.now();
    if (now - this.doubledAt < this.ms) return;
    this.doubledAt = now;
    this.doublings += 1;
  }
  less() { if (performance.now() - this.doubledAt > LONGEST_MS) this.doublings = Math.max(0, this.doublings - 1); }
  get ms() { return Math.min(LONGEST_MS, this.first * 2 ** this.doublings); }
}

/** silent: while a body goes. answer: once all of it has gone. */
export const usualPatience = () => ({ silent: new Patience(SILENT_MS), answer: new Patience(ANSWER_MS) });

/** For a call that is tried for the n-th time, from 0. */
export const callMs = (tries) => Math.min(LONGEST_MS, CALL_MS * 2 ** tries);

function problemOf(status, text, retryAfter) {
  let extra = {};
  try { extra = JSON.parse(text); } catch { /* a proxy's own page */ }
  const retryable = extra.retryable ?? (status >= 500 || status === 429 || status === 408 || status === 0);
  return new Problem(extra.code ?? (status ? `http_${status}` : "network"),
    { status, retryable, retryAfterS: Number(retryAfter) || 0, extra });
}

export class Api {
  constructor(ticket) { this.ticket = ticket; }

  /** ms: how long the whole call may take. */
  async call(method, path, { json, headers = {}, signal, ms = LONGEST_MS } = {}) {
    let response, text;
    const either = new AbortController();
    const stop = () => either.abort();
    const timer = setTimeout(stop, ms);
    const began = performance.now();
    signal?.addEventListener("abort", stop);
    try {
      signal?.throwIfAborted();
      response = await fetch(API + path, {
        method, signal: either.signal, cache: "no-store", credentials: "omit",
        headers: { Authorization: `Bearer ${this.ticket}`, ...(json && { "Content-Type": "application/json" }), ...headers },
        body: json && JSON.stringify(json),
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new Problem("network", { retryable: true, isSilence: either.signal.aborted });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
    if (!response.ok) throw problemOf(response.status, text, response.headers.get("Retry-After"));
    this.answerMs = performance.now() - began;  // of the last one
    return text ? JSON.parse(text) : null;
  }
}

/**
 * One body on its way; answers the text that comes back. progress(bytes) is called with what has gone.
 * XMLHttpRequest, since fetch says nothing about how much of a body has gone: a chunk may take minutes.
 */
function send(url, headers, body, { signal, progress, patience = usualPatience() }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer, hadGone = false;
    const alive = ({ ms }) => { clearTimeout(timer); timer = setTimeout(() => request.abort(), ms); };
    const stop = () => request.abort();
    const ended = (outcome, value) => { clearTimeout(timer); signal.removeEventListener("abort", stop); outcome(value); };
    request.open("PUT", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => { alive(patience.silent); progress(event.loaded); };
    request.upload.onload = () => { hadGone = true; alive(patience.answer); };
    request.onload = () => (request.status >= 200 && request.status < 300
      ? ended(resolve, request.responseText)
      : ended(reject, problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After"))));
    request.onerror = () => ended(reject, new Problem("network", { retryable: true }));
    request.onabort = () => ended(
      reject, signal.aborted ? signal.reason : new Problem("network", { retryable: true, isSilence: true, hadGone }));
    signal.addEventListener("abort", stop);
    alive(patience.silent);
    request.send(body);
  });
}

/** Chunks to the server itself. */
export class ServerChunks {
  constructor(api, id) { Object.assign(this, { api, id }); }

  /** Whether it keeps what came of a chunk that was cut. */
  keeps() { return true; }

  /** Answers the receipt. */
  async put(index, offset, body, digest, options) {
    const headers = {
      Authorization: `Bearer ${this.api.ticket}`, "Content-Type": "application/octet-stream",
      "Repr-Digest": `sha-256=:${btoa(String.fromCharCode(...digest))}:`,
    };
    return JSON.parse(await send(`${API}/${this.id}/chunk?index=${index}${offset ? `&offset=${offset}` : ""}`, headers, body, options));
  }
}

/**
 * Chunks straight to the object store, by URLs that the server signs. What it does not take (its CORS rules do not know
 * this page, a network lets nobody through to it) goes through the server, and after a few such chunks all the rest.
 */
export class DirectChunks {
  constructor(api, id, server) {
    Object.assign(this, { api, id, server, wanted: [], signing: null, failures: 0, cuts: new Map() });
  }

  keeps(index) { return this.failures >= DIRECT_FAILURES || this.cuts.get(index) >= DIRECT_TRIES; }

  async put(index, offset, body, digest, options) {
    if (offset || this.keeps(index)) {
      return this.server.put(index, offset, body, digest, options);
    }
    let part;
    try {
      part = await this.sign(index, hex(digest), options);
    } catch (error) {
      if (error.code !== "direct_unavailable") throw error;
      this.failures = DIRECT_FAILURES;
      return this.server.put(index, 0, body, digest, options);
    }
    let gone = 0;
    try {
      await send(part.url, part.headers, body, { ...options, progress: (bytes) => options.progress(gone = bytes) });
      this.failures = 0;
      return { sha256: hex(digest) };
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const cuts = (this.cuts.get(index) ?? 0) + 1;
      this.cuts.set(index, cuts);
      // Some bytes have gone: the line broke. None, or an answer: the store does not want them.
      if (gone && !error.status && cuts < DIRECT_TRIES) throw error;
      options.progress(0);
      const receipt = await this.server.put(index, 0, body, digest, options);
      if (!error.isSilence) this.failures += 1;  // the network is there, so it is the store
      return receipt;
    }
  }

  /** Asked for while an answer is awaited, URLs come together with the next one. */
  sign(index, sha256, options) {
    return new Promise((resolve, reject) => {
      this.wanted.push({ index, sha256, resolve, reject });
      this.signing ??= this.signAll(options).finally(() => { this.signing = null; });
    });
  }

  async signAll({ signal, patience }) {
    while (this.wanted.length) {
      const batch = this.wanted.splice(0, MAX_PARTS);
      try {
        const { parts } = await this.api.call(
          "POST", `/${this.id}/parts`,
          { json: { parts: batch.map(({ index, sha256 }) => ({ index, sha256 })) }, signal, ms: patience.silent.ms });
        const urls = new Map(parts.map((part) => [part.index, part]));
        for (const { index, resolve } of batch) resolve(urls.get(index));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
  }
}
