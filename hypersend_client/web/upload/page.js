// The upload page. Its address carries, after the #: ticket, and optionally lang, theme, accent, chat (an id), to (the
// chat's name). What comes after a # never reaches a server's log.

import { accent, dress, language } from "./dress.js";
import { WORDS, sizeWords, timeWords } from "./words.js";

const options = new URLSearchParams(location.hash.slice(1));
const lang = language(options);
const words = WORDS[lang];
const ticket = options.get("ticket");
const $ = (id) => document.getElementById(id);
const size = (bytes) => sizeWords(bytes, lang);
if (options.get("accept") === "media") $("files").accept = "image/*,video/*";
const rows = new Map();
const worker = new Worker("/upload/worker.js", { type: "module" });
const LONG_NAME = 60;
const ICONS = {
  file: "M7 3h7l5 5v13H7zM14 3v5h5",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  video: "M4 6h11v12H4zM15 10l5-3v10l-5-3",
  audio: "M9 18V5l11-2v13M3 18a3 3 0 1 0 6 0 3 3 0 1 0-6 0M14 16a3 3 0 1 0 6 0 3 3 0 1 0-6 0",
  pause: "M9 5v14M15 5v14",
  resume: "M8 5l11 7-11 7z",
  retry: "M19.5 14A8 8 0 1 1 18 6.500L20 9M20 4v5h-5",
  check: "M5 12l5 5L20 7",
  choose: "M12 16V5m0 0L7 10m5-5 5 5M5 19h14",
};

let mostBytes = Infinity;
let count = 0;
let speed = 0;

function banner(text, isLoss = false) {
  $("banner").textContent = text;
  $("banner").classList.toggle("loss", isLoss);
  $("banner").hidden = !text;
}

// What an earlier page began and did not finish: by name, size and date of the file

// By the name and in the form of the app's own entries, so that signing out removes it (app/kept_in_browser.py).
const JOURNAL = "flutter.hypersend.uploads";
const OLD_MS = 8 * 24 * 3600 * 1000;

function journal(change) {
  let entries = {};
  try {
    entries = JSON.parse(JSON.parse(localStorage.getItem(JOURNAL) ?? '"{}"'));
    for (const [key, entry] of Object.entries(entries)) if (Date.now() - entry.at > OLD_MS) delete entries[key];
    if (change) {
      change(entries);
      localStorage.setItem(JOURNAL, JSON.stringify(JSON.stringify(entries)));
    }
  } catch (error) {
    console.warn("uploads are not remembered:", error.name);  // a browser that keeps nothing: they still go through
  }
  return entries;
}

const keyOf = (file) => JSON.stringify([file.name, file.size, file.lastModified, options.get("chat") ?? ""]);

// Rows

/** A long name with its ending kept: about two lines on a phone. */
function shortName(name) {
  const signs = [...name];
  return signs.length <= LONG_NAME ? name : `${signs.slice(0, LONG_NAME - 16).join("")}…${signs.slice(-15).join("")}`;
}

function addRow(name, bytes, type = "") {
  const item = $("row").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  const row = {
    n: count += 1, item, name, bytes, state: "", sent: 0,
    words: find(".words"), bar: find(".bar"), main: find(".main-button"), cancel: find(".cancel"),
  };
  find(".name").textContent = shortName(name);
  find(".name").title = name;
  find(".kind path").setAttribute("d", ICONS[type.split("/")[0]] ?? ICONS.file);
  row.bar.setAttribute("aria-label", words.progress(name));
  row.main.onclick = () => mainButton(row);
  row.cancel.onclick = () => cancelButton(row);
  $("list").append(item);
  rows.set(row.n, row);
  return row;
}

function addFile(file) {
  const key = keyOf(file);
  for (const row of rows.values()) {
    if (row.key !== key) continue;
    if (row.state === "unfinished" || row.state === "failed") { row.item.remove(); rows.delete(row.n); continue; }
    if (row.state !== "done") return;  // it is on its way
  }
  const row = addRow(file.name, file.size, file.type);
  Object.assign(row, { key, file });
  const problem = file.size > mostBytes && { code: "file_too_large", extra: { max_file_size: mostBytes } };
  if (problem) return show(row, { state: "failed", sent: 0, problem });
  start(row);
}

function start(row) {
  worker.postMessage({
    type: "add", n: row.n,
    upload: { file: row.file, ticket, chat: options.get("chat"), entry: journal()[row.key] ?? null },
  });
  show(row, { state: "waiting", sent: 0 });
}

function mainButton(row) {
  if (row.state === "unfinished") $("files").click();
  else if (row.state === "paused") worker.postMessage({ type: "resume", n: row.n });
  else if (row.state === "failed") start(row);
  else worker.postMessage({ type: "pause", n: row.n });
}

async function cancelButton(row) {
  if (row.state !== "done" && row.state !== "failed" && !await sure(row.name)) return;
  if (row.state !== "done" && row.state !== "failed") {
    journal((entries) => { delete entries[row.key]; });
    if (row.state !== "unfinished") worker.postMessage({ type: "cancel", n: row.n });
  }
  const after = row.item.nextElementSibling ?? row.item.previousElementSibling;
  row.item.remove();
  rows.delete(row.n);
  (after?.querySelector("button") ?? $("choose")).focus();
  summary();
}

function sure(name) {
  $("sure-words").textContent = words.sure_words(name);
  $("sure").showModal();
  return new Promise((resolve) => { $("sure").onclose = () => { resolve($("sure").returnValue === "yes"); $("sure").returnValue = ""; }; });
}

function why({ code, status, extra = {} }) {
  if (status === 401) return words.ticket;
  if (code === "file_too_large" || status === 413) {
    return extra.max_file_size ? words.file_too_large(size(extra.max_file_size)) : words.file_too_large_plain;
  }
  if (code === "not_allowed" || code === "chat_gone") return words.chat_gone;
  if (["not_found", "upload_expired", "upload_lost", "upload_closed"].includes(code)) return words.gone;
  if (code === "chunk_conflict") return words.unreadable;
  return words[code] ?? words.refused;
}

function sentence(row, { problem }) {
  const sent = size(row.sent), all = size(row.bytes);
  switch (row.state) {
    case "uploading": {
      const parts = [words.moving(sent, all)];
      if (speed > 0 && row.sent < row.bytes) {
        parts.push(words.speed(size(speed)), words.left(timeWords((row.bytes - row.sent) / speed, words)));
      }
      return parts.map((part) => part.replaceAll(" ", "\u00a0")).join(" · ");  // lines break between them only
    }
    case "offline": case "paused": return words[row.state](sent, all);
    case "done": return words.done(all);
    case "failed": return why(problem);
    default: return words[row.state];
  }
}

function show(row, news) {
  const was = row.state;
  row.state = news.state;
  row.sent = news.state === "done" ? row.bytes : news.sent ?? 0;
  if (news.state === "uploading" && news.speed !== undefined) speed = news.speed;
  row.item.className = row.state;
  row.words.textContent = sentence(row, news);
  const part = row.bytes ? row.sent / row.bytes : Number(row.state === "done");
  row.bar.setAttribute("aria-valuenow", Math.floor(part * 100));
  row.bar.firstElementChild.style.width = `${part * 100}%`;
  if (was !== row.state) {
    const action = { paused: "resume", failed: "retry", unfinished: "choose" }[row.state] ?? "pause";
    const name = { resume: words.resume, retry: words.retry, choose: words.again, pause: words.pause }[action](row.name);
    row.main.hidden = row.state === "done" || row.state === "finishing";
    row.main.setAttribute("aria-label", name);
    row.main.title = name;
    row.main.querySelector("path").setAttribute("d", ICONS[action]);
    const away = row.state === "done" || row.state === "failed" ? words.remove(row.name) : words.cancel(row.name);
    row.cancel.setAttribute("aria-label", away);
    row.cancel.title = away;
    if (row.state === "done") {
      row.item.querySelector(".kind path").setAttribute("d", ICONS.check);
      say(words.done_spoken(row.name));
    }
    if (row.state === "failed") say(words.failed_spoken(row.name, row.words.textContent));
  }
  summary();
}

function say(text) { $("spoken").textContent = text; }

const ACTIVE = ["waiting", "checking", "uploading", "offline", "finishing"];

function summary() {
  const all = [...rows.values()].filter((row) => row.state !== "unfinished");
  const active = all.some((row) => ACTIVE.includes(row.state));
  const bytes = all.reduce((sum, row) => sum + row.bytes, 0), sent = all.reduce((sum, row) => sum + row.sent, 0);
  const done = all.filter((row) => row.state === "done").length;
  $("drop").classList.toggle("small", all.length > 0);
  $("choose").textContent = all.length ? words.more : words.choose;
  $("total").hidden = all.length < 2;
  $("total-words").textContent = words.total(done, all.length, size(sent), size(bytes));
  $("total-bar").setAttribute("aria-valuenow", bytes ? Math.floor(sent / bytes * 100) : 0);
  $("total-bar").firstElementChild.style.width = `${bytes ? sent / bytes * 100 : 0}%`;
  $("keep").hidden = !all.length || !(active || done === all.length);
  $("keep").textContent = active ? words.keep : words.all_done;
  onbeforeunload = active ? (event) => event.preventDefault() : null;
  stayAwake(active);
}

let lock = null;

/** A phone that goes to sleep would cut the upload off. Only asked for where the browser offers it. */
async function stayAwake(active) {
  if (active && !lock && navigator.wakeLock && document.visibilityState === "visible") {
    lock = "asked";
    try {
      lock = await navigator.wakeLock.request("screen");
      lock.onrelease = () => { lock = null; };
    } catch (error) {
      if (error.name !== "NotAllowedError") throw error;  // low battery, or a frame that may not
    }
  } else if (!active && lock?.release) {
    lock.release();
  }
}

// Files come in

function take(list) {
  const folders = [...(list.items ?? [])].some((item) => item.webkitGetAsEntry?.()?.isDirectory);
  banner(folders ? words.folder : "");
  if (!folders) for (const file of list.files) addFile(file);
}

$("choose").onclick = () => $("files").click();
$("files").onchange = () => { take({ files: [...$("files").files] }); $("files").value = ""; };
let over = 0;
for (const [name, by] of [["dragenter", 1], ["dragleave", -1]]) {
  addEventListener(name, () => { over += by; document.body.classList.toggle("over", over > 0); });
}
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over = 0;
  document.body.classList.remove("over");
  if (ticket) take(event.dataTransfer);
});
addEventListener("online", () => worker.postMessage({ type: "online" }));
addEventListener("hashchange", () => location.reload());

worker.onmessage = ({ data }) => {
  const row = rows.get(data.n);
  if (data.type === "remember") {
    if (row) journal((entries) => { if (data.entry) entries[row.key] = { ...data.entry, at: Date.now() }; else delete entries[row.key]; });
  } else if (row && data.state !== "cancelled") {
    show(row, data);
  }
};

// The page itself

async function askServer() {
  try {
    const server = await (await fetch("/api/v1/server", { credentials: "omit" })).json();
    mostBytes = server.max_file_size ?? Infinity;
    if (!options.has("accent")) accent(server.accent_color);
    document.title = `${words.title} · ${server.name}`;
  } catch (error) {
    console.warn("the server's settings are not known:", error.name);  // sizes are checked there in any case
  }
}

dress(options);
document.title = words.title;
$("title").textContent = words.title;
$("chat").textContent = options.get("to") ? words.to(options.get("to")) : "";
$("chat").hidden = !options.get("to");
$("choose").textContent = words.choose;
$("hint").textContent = words.hint;
$("hint").className = "drop-hint";
$("total-bar").setAttribute("aria-label", words.progress_all);
$("sure-title").textContent = words.sure_title;
$("sure-yes").textContent = words.sure_yes;
$("sure-no").textContent = words.sure_no;
if (ticket) {
  for (const [key, entry] of Object.entries(journal())) {
    const [name, bytes, , chat] = JSON.parse(key);
    if (chat !== (options.get("chat") ?? "") || !entry.id) continue;
    show(Object.assign(addRow(name, bytes), { key }), { state: "unfinished", sent: 0 });
  }
  askServer();
} else {
  banner(words.no_ticket, true);
  $("drop").hidden = true;
}
