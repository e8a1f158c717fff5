// The app's WebSocket, which outlives its connections. A line that dies unheard (a router forgets it, a phone changes its
// mast) is told to no page: the browser repeats what it has for a quarter of an hour, and what is typed meanwhile is gone.
// So frames are counted and kept until the server has them, it is asked now and then, and where no answer comes a new
// connection goes on where the last one was. The app notices no more than a pause. `hypersend_server/web_client/line.py`
// is the other end and says how.
(() => {
  const ASK_MS = 3000, HIDDEN_ASK_MS = 30000, ANSWER_MS = 6000, LONGEST_MS = 120000, SHOWN_AFTER_MS = 2000;
  const FIRST_WAIT_MS = 250, LONGEST_WAIT_MS = 4000, MUCH_BYTES = 256 * 1024, UNKNOWN_LINE = 4404;
  const WORDS = navigator.language.startsWith("hi") ? "जुड़ रहा है…" : "Connecting…";
  const Plain = window.WebSocket;
  const OLDER = "hypersend_line";
  let patience = ANSWER_MS;  // doubles where it was in vain: a slow line is no dead one
  let older = "";            // the line of this page before it was loaded again, which the server need not keep
  try {
    older = sessionStorage.getItem(OLDER) ?? "";
    sessionStorage.removeItem(OLDER);  // or a tab that is made of this one would end its line
  } catch { /* a browser that keeps nothing */ }
  const named = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  const notice = document.createElement("div");
  notice.id = "line";
  notice.setAttribute("role", "status");
  notice.style.cssText = "position: fixed; top: 64px; left: 50%; transform: translateX(-50%); padding: 6px 14px; z-index: 9; "
    + "border-radius: 16px; background: #303034; color: #fff; font: 14px system-ui, sans-serif; pointer-events: none";
  const show = (isShown) => {
    if (!notice.isConnected) document.body.append(notice);
    notice.style.visibility = isShown ? "visible" : "hidden";
    notice.textContent = isShown ? WORDS : "";
  };

  /** The screens begin anew, and do not know what was typed since they went: the app finds it here once it is loaded again
   * (app/kept_in_browser.py). Whether there is anything. */
  const keepTyped = () => {
    const chat = /^\/chat\/([^/]+)/.exec(location.pathname)?.[1];
    const field = document.activeElement;
    if (!chat || field?.tagName !== "TEXTAREA" || !field.value) return false;
    try {
      localStorage.setItem("flutter.hypersend.typed", JSON.stringify(JSON.stringify([chat, field.value])));
      return true;
    } catch { return false; }
  };

  class Line extends EventTarget {
    constructor(url, protocols) {
      super();
      const target = new URL(url, location.href.replace(/^http/, "ws"));
      if (target.pathname !== "/ws") return new Plain(url, protocols);
      Object.assign(this, { url: target.href, readyState: Plain.CONNECTING, kind: "blob", protocol: "", extensions: "" });
      this.name = named();
      this.received = 0;          // frames
      this.kept = [];             // what was sent and the server is not known to have
      this.confirmed = 0;         // frames before those
      this.tries = 0;
      this.timer = setInterval(() => this.look(), 1000);
      this.wake = () => { if (!this.socket) this.connect(); else this.look(); };
      window.addEventListener("online", this.wake);
      document.addEventListener("visibilitychange", this.wake);
      this.leave = () => { try { sessionStorage.setItem(OLDER, this.name); } catch { /* as above */ } };
      window.addEventListener("pagehide", this.leave);
      this.connect();
    }

    get binaryType() { return this.kind; }

    set binaryType(kind) { this.kind = kind; if (this.socket) this.socket.binaryType = kind; }

    get bufferedAmount() { return this.socket?.bufferedAmount ?? 0; }

    send(data) {
      if (this.readyState === Plain.CONNECTING) throw new DOMException("not connected yet", "InvalidStateError");
      if (this.readyState !== Plain.OPEN) return;
      this.kept.push(data.slice?.(0) ?? data);
      if (this.isOnline) this.socket.send(data);
    }

    close(code, reason) {
      if (this.readyState >= Plain.CLOSING) return;
      this.readyState = Plain.CLOSING;
      if (this.socket) this.socket.close(code, reason);
      else this.finish(code ?? 1000, reason);
    }

    // one connection after the other

    connect() {
      clearTimeout(this.again);
      const isNew = this.readyState === Plain.CONNECTING;
      if (isNew && this.tries) {  // what was tried before may have begun over there
        older ||= this.name;
        this.name = named();
      }
      const words = ["hypersend-line", this.name];
      if (isNew && older) words.push(older);
      const socket = new Plain(isNew ? this.url : `${this.url}?had=${this.received}`, words);
      this.socket = socket;
      this.isOnline = this.isAsked = false;
      this.heard = this.since = performance.now();
      this.unasked = 0;           // bytes received since the last question
      socket.binaryType = this.kind;
      socket.onmessage = ({ data }) => {
        if (socket !== this.socket) return;
        this.heard = performance.now();
        if (typeof data === "string") return this.told(Number(data.slice(1)));
        this.received += 1;
        this.unasked += data.byteLength ?? data.size;
        if (this.unasked > MUCH_BYTES) this.ask();
        this.tell(new MessageEvent("message", { data, origin: new URL(this.url).origin }));
      };
      socket.onclose = ({ code, reason }) => { if (socket === this.socket) this.lost(code, reason); };
    }

    told(has) {
      this.kept.splice(0, Math.max(0, has - this.confirmed));
      this.confirmed = Math.max(this.confirmed, has);
      if (this.isAsked && performance.now() - this.asked < ANSWER_MS) patience = ANSWER_MS;
      this.isAsked = false;
      show(false);
      if (this.isOnline) return;
      this.isOnline = true;
      this.tries = 0;
      older = "";
      for (const data of this.kept) this.socket.send(data);
      if (this.readyState !== Plain.CONNECTING) return;
      this.readyState = Plain.OPEN;
      this.tell(new Event("open"));
    }

    ask() {
      this.isAsked = true;
      this.unasked = 0;
      this.asked = performance.now();
      this.socket.send(`?${this.received}`);
    }

    look() {
      if (this.readyState > Plain.OPEN || !this.socket) return;
      const now = performance.now();
      const quiet = now - this.heard;
      if (!this.isOnline || this.isAsked) {
        const waited = now - Math.max(this.heard, this.isOnline ? this.asked : this.since);
        if (waited > SHOWN_AFTER_MS) show(true);
        if (waited <= patience) return;
        patience = Math.min(LONGEST_MS, patience * 2);
        const { socket } = this;
        this.lost(1006, "");
        socket.close();
      } else if (quiet > (document.hidden ? HIDDEN_ASK_MS : ASK_MS) || (this.kept.length && now - (this.asked ?? 0) > ASK_MS)) {
        this.ask();
      }
    }

    /** 1006: the connection broke, or none could be had, and nobody closed it. 1012: the server is being restarted, and
     * will know no line. The first one is tried again here, too: the app would wait for longer with nothing on the screen. */
    lost(code, reason) {
      this.socket = null;
      this.isOnline = false;
      if ((code !== 1006 && code !== 1012) || this.readyState > Plain.OPEN) return this.finish(code, reason);
      this.again = setTimeout(() => this.connect(), Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.tries));
      this.tries += 1;
      if (this.tries > 1) show(true);
    }

    finish(code, reason) {
      const wasOpen = this.readyState !== Plain.CONNECTING;
      if (wasOpen && code === UNKNOWN_LINE && keepTyped()) return location.reload();
      clearTimeout(this.again);
      clearInterval(this.timer);
      window.removeEventListener("online", this.wake);
      document.removeEventListener("visibilitychange", this.wake);
      window.removeEventListener("pagehide", this.leave);
      this.readyState = Plain.CLOSED;
      this.kept = [];
      if (!wasOpen) this.tell(new Event("error"));
      this.tell(new CloseEvent("close", { code: code === UNKNOWN_LINE ? 1006 : code, reason, wasClean: code !== 1006 }));
    }

    tell(event) {
      this.dispatchEvent(event);
      this[`on${event.type}`]?.(event);
    }
  }

  for (const name of ["CONNECTING", "OPEN", "CLOSING", "CLOSED"]) Line[name] = Line.prototype[name] = Plain[name];
  window.WebSocket = Line;
})();
